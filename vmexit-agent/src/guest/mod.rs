//! Who the virtual machines are: every process that holds a KVM VM, its name, and its vCPU threads.

mod qemu;

use std::collections::BTreeMap;

use procfs::process::{FDTarget, Process, all_processes};
use thiserror::Error;

/// `/proc` can't be read.
#[derive(Debug, Error)]
#[error("/proc can't be read, so no VM can be found: {0}")]
pub struct ProcError(#[from] procfs::ProcError);

/// A process that holds a KVM VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Process id of the VMM.
    pub pid: u32,
    /// QEMU's `-name`, else the command's name. Chosen by whoever started it: not safe to print
    /// as it is.
    pub name: String,
    /// vCPUs by file descriptor.
    pub vcpus: usize,
    /// vCPU number by thread id, where the VMM names its threads as QEMU does.
    pub threads: BTreeMap<u32, u32>,
}

/// All VMs that `/proc` lets us see, by process id. Processes that end meanwhile are passed over.
pub fn find_all() -> Result<Vec<Vm>, ProcError> {
    let mut vms: Vec<Vm> = all_processes()?.flatten().filter_map(|p| Vm::of(&p)).collect();
    vms.sort_by_key(|vm| vm.pid);
    Ok(vms)
}

/// The VM of one process, if it holds one.
pub fn find(pid: u32) -> Option<Vm> {
    Vm::of(&Process::new(pid as i32).ok()?)
}

impl Vm {
    fn of(process: &Process) -> Option<Self> {
        let (mut is_vm, mut vcpus) = (false, 0);
        for fd in process.fd().ok()?.flatten() {
            // `anon_inode:kvm-vm`, `anon_inode:kvm-vcpu:0` (virt/kvm/kvm_main.c).
            let FDTarget::AnonInode(kind) = fd.target else { continue };
            is_vm |= kind == "kvm-vm";
            vcpus += usize::from(kind.starts_with("kvm-vcpu:"));
        }
        if !is_vm {
            return None;
        }
        let name = process
            .cmdline()
            .ok()
            .and_then(|arguments| qemu::name(&arguments))
            .or_else(|| process.stat().ok().map(|stat| stat.comm))
            .unwrap_or_default();
        Some(Self { pid: process.pid() as u32, name, vcpus, threads: threads(process) })
    }

    /// Whether the user means this VM: its process id or its very name.
    pub fn answers_to(&self, wanted: &str) -> bool {
        self.name == wanted || wanted.parse() == Ok(self.pid)
    }
}

fn threads(process: &Process) -> BTreeMap<u32, u32> {
    let Ok(tasks) = process.tasks() else { return BTreeMap::new() };
    tasks
        .flatten()
        .filter_map(|task| Some((task.tid as u32, qemu::vcpu_of_thread(&task.stat().ok()?.comm)?)))
        .collect()
}
