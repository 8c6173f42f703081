//! Asks a VM's VMM for its memory tree: which device is at which address.
//!
//! In comes a [`Vm`] with the ways to ask it, out the text of QEMU's `info mtree -f -o`. Every wait and
//! every buffer is bounded, as the VMM may be hostile; nothing is kept, so who asks often has to
//! remember the answer, a failure too. QEMU answers in its main loop: meanwhile vCPUs that need that
//! wait, for a millisecond or two.

mod libvirt;
mod maps;
mod message;
mod qmp;
mod socket;

use std::{
    fmt,
    time::{Duration, Instant},
};

use vmexit_core::{
    escape::safe,
    vm::{Monitor, Vm},
};

pub use self::{libvirt::LibvirtError, maps::Maps, qmp::QmpError, socket::SocketError};

/// How long one way to ask may take.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The flat view: what is hidden behind other regions is not in it; with the owner of each region, whose
/// id tells one virtio device from another. In QEMU since 3.0.
const QUESTION: &str = "info mtree -f -o";

/// How to ask.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// How long one way to ask may take; a VM has at most five.
    pub patience: Duration,
    /// What to do where only libvirt can ask.
    pub virsh: Virsh,
}

/// What to do where only libvirt can ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Virsh {
    /// Run `virsh qemu-monitor-command`. libvirt marks the domain as tainted (`custom-monitor`) until
    /// it ends, and says so in a line of its log.
    #[default]
    Ask,
    /// Leave it.
    Leave,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self { patience: PATIENCE, virsh: Virsh::default() }
    }
}

/// No way led to an answer. One sentence, safe to print.
#[derive(Debug, thiserror::Error)]
#[error("the devices of VM {vm} can't be asked for: {}", Tried(.tried))]
pub struct MonitorError {
    /// The VM's name, safe to print.
    pub vm: String,
    /// Each way and why it failed, in the order in which they were tried.
    pub tried: Vec<(Monitor, Failure)>,
}

/// Why one way to ask failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Failure {
    /// The socket can't be connected to.
    Socket(#[from] SocketError),
    /// QEMU did not answer.
    Qmp(#[from] QmpError),
    /// libvirt did not answer.
    Libvirt(#[from] LibvirtError),
    /// There was an answer, but it is not a memory tree.
    #[error("it answered with something else: {0}")]
    NoTree(String),
}

/// The text of `info mtree -f -o`, from the first of the VM's monitors that answers. It is the VMM's own
/// word: lines end in `\n` or `\r\n`, and nothing else is certain of it.
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
            let left = options.patience.saturating_sub(begun.elapsed());
            qmp::human(socket, QUESTION, left).await?
        }
        (Monitor::Libvirt(name), Virsh::Ask) => {
            libvirt::human(vm.pid, name, QUESTION, options.patience).await?
        }
        (Monitor::Libvirt(_), Virsh::Leave) => return Err(LibvirtError::Left.into()),
    };
    // Every range has it, in every version (`mtree_print_flatview`, QEMU's `softmmu/memory.c`). What
    // a monitor can't do it says as an answer, too.
    if answer.contains("(prio ") {
        Ok(answer)
    } else {
        Err(Failure::NoTree(safe(answer.lines().next().unwrap_or_default())))
    }
}

/// The ways that were tried, as the end of a sentence.
struct Tried<'a>(&'a [(Monitor, Failure)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(
                "it has no QMP socket that can be connected to; start QEMU with -qmp \
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
