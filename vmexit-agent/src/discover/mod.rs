//! VMs on this host: a [`Vm`] for every process in `/proc` that has a KVM VM open.

mod finder;
mod process;
mod sockets;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use caps::{CapSet, Capability};
use thiserror::Error;
use vmexit_core::vm::{FoundVms, ProcessFacts, Vm, Vmm};

use self::process::Process;
pub(crate) use self::{
    finder::Finder,
    process::MAX_COMMAND_LINE,
    sockets::{listens, users},
};

/// Mount point of procfs.
const PROC: &str = "/proc";

/// Open files among which a VM is searched. A VMM opens its VM when it starts, and Linux gives the lowest free number
/// and lists in their order; a process that has inherited more files than this is none.
const FILES_BEFORE_VM: usize = 4096;

/// Open files of a VMM that are looked at: room for KVM's limit of vCPUs (4,096) behind the VM.
const MAX_FILES: usize = 4 * FILES_BEFORE_VM;

/// Process IDs that a sentence about hidden processes names.
const MOST_NAMED: usize = 3;

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
    let mut found = FoundVms { missing: missing_capabilities(), ..FoundVms::default() };
    for process in Process::all(proc)? {
        match vm_of(&process) {
            Ok((files, vm)) => {
                found.seen += usize::from(files > 0);
                found.vms.extend(vm);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                found.denied += 1;
                // With all capabilities, few are left, such as the init of a machine with fewer capabilities than this
                // process has: no reason to warn at every command.
                if !found.missing.is_empty() || looks_like_vmm(&process) {
                    found.hidden += 1;
                    if found.hidden_pids.len() < MOST_NAMED {
                        found.hidden_pids.push(process.pid);
                    }
                }
            }
            Err(_) => {}
        }
    }
    found.vms.sort_by_key(|vm| vm.pid);
    Ok(found)
}

/// Capabilities for listing other users' open files that this process lacks; all if that can't be told.
fn missing_capabilities() -> Vec<&'static str> {
    let needed = [
        (Capability::CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
        (Capability::CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    ];
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    needed.into_iter().filter(|(capability, _)| !has(*capability)).map(|(_, name)| name).collect()
}

/// Whether a process could be a VMM, by what everybody may read: its command line and the names of its threads.
fn looks_like_vmm(process: &Process) -> bool {
    let vm = Vm::of(ProcessFacts {
        pid: process.pid,
        arguments: process.arguments().0,
        command: process.name(),
        threads: process.threads().collect(),
        ..ProcessFacts::default()
    });
    vm.vmm != Vmm::Other || !vm.threads.is_empty()
}

/// Number of open files of a process, and its VM if one of them is a KVM VM.
fn vm_of(process: &Process) -> io::Result<(usize, Option<Vm>)> {
    let (mut files, mut is_vm, mut vcpus) = (0, false, 0);
    for file in process.files()? {
        if files == if is_vm { MAX_FILES } else { FILES_BEFORE_VM } {
            break;
        }
        files += 1;
        // virt/kvm/kvm_main.c: kvm_dev_ioctl_create_vm, create_vcpu_fd.
        let file = file?;
        let file = file.to_string_lossy();
        is_vm |= file == "anon_inode:kvm-vm";
        vcpus += usize::from(file.starts_with("anon_inode:kvm-vcpu:"));
    }
    let vm = is_vm.then(|| {
        let (arguments, command_line_cut) = process.arguments();
        Vm::of(ProcessFacts {
            pid: process.pid,
            program: process.program(),
            arguments,
            command_line_cut,
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
