//! Memory trees of VMs: which device is at which address, from QEMU's `info mtree -f -o`.
//!
//! QEMU is asked through the monitors of a [`Vm`]: QMP sockets, or libvirt. The VMM may be hostile, so every wait and
//! every buffer is bounded. [`memory_tree`] caches nothing; [`Maps`] does. QEMU answers in its main loop, so vCPUs that
//! need the main loop wait for a millisecond or two.

mod libvirt;
mod maps;
mod message;
mod qmp;
mod socket;
mod trusted;

use std::{fmt, time::Duration};

use tokio::time::Instant;
use vmexit_core::{
    escape::safe,
    vm::{Monitor, Vm},
};

pub use self::{libvirt::LibvirtError, maps::Maps, qmp::QmpError, socket::SocketError};

/// Default of [`MonitorOptions::patience`].
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(2);

/// Command of the human monitor. The flat view leaves out hidden regions and has the owner of each region, whose ID
/// distinguishes virtio devices. In QEMU since 3.0.
const QUESTION: &str = "info mtree -f -o";

/// Options for asking VMs.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// Time limit of one monitor; a VM has at most five.
    pub patience: Duration,
    /// Use of virsh for monitors that belong to libvirt.
    pub virsh: Virsh,
}

/// Use of virsh for monitors that belong to libvirt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Virsh {
    /// Run `virsh qemu-monitor-command`. libvirt marks the domain as tainted (`custom-monitor`) until it ends, and logs
    /// a line about it.
    #[default]
    Ask,
    /// Don't ask.
    Skip,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self { patience: DEFAULT_PATIENCE, virsh: Virsh::default() }
    }
}

/// Failure of all monitors of a VM. One sentence, safe to print.
#[derive(Debug, thiserror::Error)]
#[error("the devices of VM {vm} can't be asked for: {}", Tried(.tried))]
pub struct MonitorError {
    /// Name of the VM, safe to print.
    pub vm: String,
    /// Monitors in the order they were tried, and why each failed.
    pub tried: Vec<(Monitor, Failure)>,
}

/// Failure of one monitor.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Failure {
    /// The socket can't be connected to.
    Socket(#[from] SocketError),
    /// QEMU did not answer.
    Qmp(#[from] QmpError),
    /// libvirt did not answer.
    Libvirt(#[from] LibvirtError),
    /// The answer is not a memory tree; its first line, safe to print.
    #[error("the answer is not a memory tree: {0}")]
    NoTree(String),
}

/// Text of `info mtree -f -o`, from the first monitor of the VM that answers. The text is untrusted; its lines end in
/// `\n` or `\r\n`.
///
/// # Errors
/// No monitor answers with a memory tree in time, or the VM has none.
pub async fn memory_tree(vm: &Vm, options: &MonitorOptions) -> Result<String, MonitorError> {
    let mut tried = Vec::new();
    for monitor in &vm.monitors {
        match ask(vm, monitor, options).await {
            Ok(tree) => return Ok(tree),
            Err(failure) => tried.push((monitor.clone(), failure)),
        }
    }
    Err(MonitorError { vm: safe(&vm.name), tried })
}

async fn ask(vm: &Vm, monitor: &Monitor, options: &MonitorOptions) -> Result<String, Failure> {
    let answer = match (monitor, options.virsh) {
        (Monitor::Qmp(address), _) => {
            let begun = Instant::now();
            let socket = socket::connect(vm.pid, address, options.patience).await?;
            qmp::human_monitor(socket, QUESTION, begun, options.patience).await?
        }
        (Monitor::Libvirt(name), Virsh::Ask) => {
            libvirt::human_monitor(vm.pid, name, QUESTION, options.patience).await?
        }
        (Monitor::Libvirt(_), Virsh::Skip) => return Err(LibvirtError::Skipped.into()),
    };
    // Every range of every version has a priority (`mtree_print_flatview`, QEMU's `softmmu/memory.c`). Errors of the
    // human monitor are answers too.
    if answer.contains("(prio ") {
        Ok(answer)
    } else {
        Err(Failure::NoTree(safe(answer.lines().next().unwrap_or_default())))
    }
}

/// Monitors and failures, as the end of a sentence.
struct Tried<'a>(&'a [(Monitor, Failure)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(
                "it has no QMP socket to connect to; start QEMU with -qmp \
                 unix:PATH,server=on,wait=off",
            );
        }
        for (index, (monitor, failure)) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}{monitor}: {failure}")?;
        }
        Ok(())
    }
}
