//! Virtual machines: what a VMM's process tells of its VM. Facts of a process come in, a [`Vm`] goes out; nothing here
//! reads `/proc`.

mod names;
mod qemu;
mod vmm;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use self::{
    qemu::{Address, Feature, Monitor, Profile},
    vmm::Vmm,
};

/// A process that holds a KVM VM; one that holds several counts as one VM.
///
/// What is text here was chosen by whoever started it, may have any length and content, and is not
/// safe to print as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Vm {
    /// Process id of the VMM.
    pub pid: u32,
    /// QEMU's `-name`, which is libvirt's domain, or what stands for it with other VMMs: the id, the
    /// name, the API socket; else the command's name.
    pub name: String,
    /// The program.
    pub vmm: Vmm,
    /// Machine type.
    pub machine: Machine,
    /// What it offers the guest.
    #[serde(default)]
    pub profile: Profile,
    /// UUID in lower case, where QEMU's command line has one.
    pub uuid: Option<String>,
    /// Whether libvirt started it.
    pub libvirt: bool,
    /// vCPUs by file descriptor.
    pub vcpus: usize,
    /// vCPU number by thread id, where the VMM's threads are named by it.
    pub threads: BTreeMap<u32, u32>,
    /// Where QEMU can be asked about its machine, in the order in which to try; see
    /// [`memory_tree`](vmexit::monitor::memory_tree).
    #[serde(skip)]
    pub monitors: Vec<Monitor>,
    /// The command line, its first megabyte. There may be secrets in it.
    #[serde(skip)]
    pub arguments: Vec<String>,
}

/// What kind of machine is emulated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// QEMU's name for it, as given: a version (`pc-q35-8.2`) or an alias (`q35`).
    Named(String),
    /// The one that this QEMU takes when it is not told.
    Default,
    /// Not to be learned from the command line; or the VMM has no such thing.
    #[default]
    Unknown,
}

impl Machine {
    /// How it is shown; `None` where there is nothing to show.
    pub fn name(&self) -> Option<&str> {
        match self {
            Machine::Named(name) => Some(name),
            Machine::Default => Some("default"),
            Machine::Unknown => None,
        }
    }
}

/// Why there is no QMP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoQmp {
    /// QMP is QEMU's.
    NotQemu,
    /// QEMU was not told to have one.
    NotAsked,
    /// QEMU speaks QMP or has a monitor, but on what has no path: a file descriptor that libvirt
    /// passed on, TCP, standard input.
    NoPath,
}

impl fmt::Display for NoQmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotQemu => "not QEMU",
            Self::NotAsked => "no -qmp or -mon in the command line",
            Self::NoPath => "-qmp or -mon without a socket path",
        })
    }
}

/// What `/proc` shows of a process that holds a VM.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// Process id.
    pub pid: u32,
    /// File name of the program.
    pub program: Option<String>,
    /// Command line.
    pub arguments: Vec<String>,
    /// Name of the process (`comm`).
    pub command: String,
    /// Thread ids and names.
    pub threads: Vec<(u32, String)>,
    /// vCPU file descriptors.
    pub vcpus: usize,
}

/// The VMs of a host.
#[derive(Clone, Debug, Default)]
pub struct FoundVms {
    /// VMs by process id.
    pub vms: Vec<Vm>,
    /// Processes whose files could be listed; kernel threads have none.
    pub seen: usize,
    /// Processes whose files could not be listed: each could be a VM.
    pub hidden: usize,
}

impl FoundVms {
    /// Whether so many processes are hidden that finding no VM means nothing. Even root may be kept from a
    /// process or two, such as a container's init.
    pub fn is_blind(&self) -> bool {
        self.hidden > self.seen
    }
}

/// Name of a VM that nobody could name.
pub fn nameless(pid: u32) -> String {
    format!("pid {pid}")
}

impl Vm {
    /// The VM of a process.
    pub fn of(process: ProcessFacts) -> Self {
        let ProcessFacts { pid, program, arguments, command, threads, vcpus } = process;
        let vmm = Vmm::of(program.as_deref(), &arguments, &command);
        let is_qemu = vmm == Vmm::Qemu;
        let name = names::name(vmm, &arguments);
        Self {
            pid,
            monitors: if is_qemu {
                qemu::monitors(&arguments, name.as_deref())
            } else {
                Vec::new()
            },
            name: name.unwrap_or(command),
            vmm,
            machine: if is_qemu { qemu::machine(&arguments) } else { Machine::Unknown },
            profile: if is_qemu { Profile::of(&arguments) } else { Profile::default() },
            uuid: is_qemu.then(|| qemu::uuid(&arguments)).flatten(),
            libvirt: names::is_libvirts(vmm, &arguments),
            vcpus,
            threads: threads
                .into_iter()
                .filter_map(|(tid, name)| Some((tid, vmm.vcpu_of_thread(&name)?)))
                .collect(),
            arguments,
        }
    }

    /// The same VM without its command line and its monitors: all that is said of it in files.
    pub fn without_secrets(&self) -> Self {
        Self {
            pid: self.pid,
            name: self.name.clone(),
            vmm: self.vmm,
            machine: self.machine.clone(),
            uuid: self.uuid.clone(),
            libvirt: self.libvirt,
            vcpus: self.vcpus,
            threads: self.threads.clone(),
            profile: self.profile.clone(),
            monitors: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Takes over what is known of it later; with threads that it has no more.
    pub fn update(&mut self, later: Self) {
        let mut threads = std::mem::take(&mut self.threads);
        threads.extend(later.threads);
        *self = Self { threads, ..later };
    }

    /// Whether the user means this VM: its process id or its very name.
    pub fn answers_to(&self, wanted: &str) -> bool {
        self.name == wanted || wanted.parse() == Ok(self.pid)
    }

    /// Why QEMU can't be asked about its machine; nothing if it can.
    pub fn no_qmp(&self) -> Option<NoQmp> {
        match self.vmm {
            _ if !self.monitors.is_empty() => None,
            Vmm::Qemu if qemu::has_monitor(&self.arguments) => Some(NoQmp::NoPath),
            Vmm::Qemu => Some(NoQmp::NotAsked),
            _ => Some(NoQmp::NotQemu),
        }
    }
}
