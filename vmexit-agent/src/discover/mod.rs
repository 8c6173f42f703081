//! VMs on this host: a [`Vm`] for every process in `/proc` that has a KVM VM open.

mod process;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use thiserror::Error;
use vmexit_core::vm::{FoundVms, ProcessFacts, Vm};

use self::process::Process;

/// Mount point of procfs.
const PROC: &str = "/proc";

/// `/proc` can't be read.
#[derive(Debug, Error)]
#[error("/proc can't be read, so no VM can be found: {0}")]
pub struct ProcError(#[from] io::Error);

/// Finds the VMs of all processes. Processes that end meanwhile are skipped.
///
/// # Errors
/// `/proc` is not mounted or can't be listed.
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

/// Number of open files of a process, and its VM if one of them is a KVM VM.
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

/// VM of a process; `None` if it has none or its open files can't be read.
pub fn find(pid: u32) -> Option<Vm> {
    vm_of(&Process::new(Path::new(PROC), pid)).ok()?.1
}

/// Whether a process exists and is not a zombie.
pub fn is_running(pid: u32) -> bool {
    // proc_pid_stat(5): the state follows the name, which may contain parentheses.
    let stat = fs::read(Path::new(PROC).join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|name| stat.get(name + 2));
    state.is_some_and(|state| !b"ZX".contains(state))
}
