//! Who the virtual machines are: every process that holds a KVM VM, what program it is, its name, and
//! its vCPU threads. `/proc` comes in, a [`Vm`] for each goes out.

mod names;
mod process;
mod qemu;
#[cfg(test)]
mod tests;
mod vm;
mod vmm;

use std::{fs, io, path::Path};

use thiserror::Error;

use self::process::Process;
pub use self::{
    qemu::{Address, Feature, Monitor, Profile},
    vm::{Machine, NoQmp, Vm},
    vmm::Vmm,
};

/// Where the kernel shows its processes.
const PROC: &str = "/proc";

/// `/proc` can't be read.
#[derive(Debug, Error)]
#[error("/proc can't be read, so no VM can be found: {0}")]
pub struct ProcError(#[from] io::Error);

/// What `/proc` shows.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// VMs by process id.
    pub vms: Vec<Vm>,
    /// Processes whose files we have seen; kernel threads have none.
    pub seen: usize,
    /// Processes whose files we may not see: each could be a VM.
    pub hidden: usize,
}

impl Found {
    /// Whether so much is hidden that finding no VM means nothing. Even root may be kept from a
    /// process or two, such as a container's init.
    pub fn is_blind(&self) -> bool {
        self.hidden > self.seen
    }
}

/// Looks at every process. Those that end meanwhile are passed over.
///
/// # Errors
/// Where `/proc` is not mounted or not ours to list.
pub fn find_all() -> Result<Found, ProcError> {
    Ok(find_all_in(Path::new(PROC))?)
}

fn find_all_in(proc: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for process in Process::all(proc)? {
        match Vm::of(&process) {
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

/// What a VM goes by that nobody could name.
pub fn nameless(pid: u32) -> String {
    format!("pid {pid}")
}

/// The VM of one process, if it holds one that we may see.
pub fn find(pid: u32) -> Option<Vm> {
    Vm::of(&Process::new(Path::new(PROC), pid)).ok()?.1
}

/// Whether a process is there and has not ended, even if nobody has waited for it yet.
pub fn is_running(pid: u32) -> bool {
    // proc_pid_stat(5): the state follows the name, which may have parentheses in it.
    let stat = fs::read(Path::new(PROC).join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|name| stat.get(name + 2));
    state.is_some_and(|state| !b"ZX".contains(state))
}
