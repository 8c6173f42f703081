//! Virtual machines on this host: every process that holds a KVM VM. `/proc` comes in, a [`Vm`] for each goes out.

mod process;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use thiserror::Error;
use vmexit_core::vm::{FoundVms, ProcessFacts, Vm};

use self::process::Process;

/// Where the kernel shows its processes.
const PROC: &str = "/proc";

/// `/proc` can't be read.
#[derive(Debug, Error)]
#[error("/proc can't be read, so no VM can be found: {0}")]
pub struct ProcError(#[from] io::Error);

/// Looks at every process. Those that end meanwhile are passed over.
///
/// # Errors
/// Where `/proc` is not mounted or not ours to list.
pub fn find_all() -> Result<FoundVms, ProcError> {
    Ok(find_all_in(Path::new(PROC))?)
}

fn find_all_in(proc: &Path) -> io::Result<FoundVms> {
    let mut found = FoundVms::default();
    for process in Process::all(proc)? {
        match vm_of(&process) {
            Ok((files, vm)) => {
                found.seen += usize::from(files > 0);
                found.vms.extend(vm);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.hidden += 1,
            Err(_) => {}
        }
    }
    found.vms.sort_by_key(|vm| vm.pid);
    Ok(found)
}

/// How many open files a process has, and the VM among them.
fn vm_of(process: &Process) -> io::Result<(usize, Option<Vm>)> {
    let (mut files, mut is_vm, mut vcpus) = (0, false, 0);
    for file in process.files()? {
        files += 1;
        // virt/kvm/kvm_main.c: kvm_dev_ioctl_create_vm, create_vcpu_fd.
        let file = file?;
        let file = file.to_string_lossy();
        is_vm |= file == "anon_inode:kvm-vm";
        vcpus += usize::from(file.starts_with("anon_inode:kvm-vcpu:"));
    }
    let vm = is_vm.then(|| {
        Vm::of(ProcessFacts {
            pid: process.pid,
            program: process.program(),
            arguments: process.arguments(),
            command: process.name(),
            threads: process.threads().collect(),
            vcpus,
        })
    });
    Ok((files, vm))
}

/// The VM of one process, if it holds one that we may see.
pub fn find(pid: u32) -> Option<Vm> {
    vm_of(&Process::new(Path::new(PROC), pid)).ok()?.1
}

/// Whether a process is there and has not ended, even if nobody has waited for it yet.
pub fn is_running(pid: u32) -> bool {
    // proc_pid_stat(5): the state follows the name, which may have parentheses in it.
    let stat = fs::read(Path::new(PROC).join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|name| stat.get(name + 2));
    state.is_some_and(|state| !b"ZX".contains(state))
}
