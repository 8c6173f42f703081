//! Virtual machines: a [`Vm`] is derived from the facts of a VMM's process. Nothing here reads
//! `/proc`.

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
/// Text fields are untrusted: the user who started the VM chose them. They can have any length and
/// content, and must be escaped before they are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Vm {
    /// Process ID of the VMM.
    pub pid: u32,
    /// Name: QEMU's `-name`, which is libvirt's domain; of other VMMs the ID, the name or the API
    /// socket; else the command's name.
    pub name: String,
    /// The VMM program.
    pub vmm: Vmm,
    /// Machine type.
    pub machine: Machine,
    /// Features offered to the guest.
    #[serde(default)]
    pub profile: Profile,
    /// UUID in lower case; null unless on QEMU's command line.
    pub uuid: Option<String>,
    /// Whether libvirt started it.
    pub libvirt: bool,
    /// Number of vCPUs, by file descriptor.
    pub vcpus: usize,
    /// vCPU number by thread ID, if the VMM names its threads by it.
    pub threads: BTreeMap<u32, u32>,
    /// Monitors through which QEMU can be asked for its memory tree, in the order in which to try
    /// them.
    #[serde(skip)]
    pub monitors: Vec<Monitor>,
    /// Command line, up to a megabyte. It may contain secrets.
    #[serde(skip)]
    pub arguments: Vec<String>,
}

/// Machine type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// QEMU's name as given: a version (`pc-q35-8.2`) or an alias (`q35`).
    Named(String),
    /// QEMU's default: none was given.
    Default,
    /// Not on the command line, or the VMM has no machine types.
    #[default]
    Unknown,
}

impl Machine {
    /// Displayed name; `None` if unknown.
    pub fn name(&self) -> Option<&str> {
        match self {
            Machine::Named(name) => Some(name),
            Machine::Default => Some("default"),
            Machine::Unknown => None,
        }
    }
}

/// Reason why there is no QMP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoQmp {
    /// Only QEMU has QMP.
    NotQemu,
    /// QEMU was started without a monitor.
    NotAsked,
    /// QEMU has a monitor, but without a path: a file descriptor passed by libvirt, TCP, or
    /// standard input.
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

/// Facts from `/proc` about a process that holds a VM.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// Process ID.
    pub pid: u32,
    /// File name of the program.
    pub program: Option<String>,
    /// Command line.
    pub arguments: Vec<String>,
    /// Name of the process (`comm`).
    pub command: String,
    /// Thread IDs and names.
    pub threads: Vec<(u32, String)>,
    /// vCPU file descriptors.
    pub vcpus: usize,
}

/// VMs of a host.
#[derive(Clone, Debug, Default)]
pub struct FoundVms {
    /// VMs, sorted by process ID.
    pub vms: Vec<Vm>,
    /// Processes whose files could be listed; kernel threads have none.
    pub seen: usize,
    /// Processes whose files could not be listed: each could be a VM.
    pub hidden: usize,
}

impl FoundVms {
    /// Whether so many processes are hidden that finding no VM means nothing. Even root may be
    /// denied access to a few processes, such as a container's init.
    pub fn is_blind(&self) -> bool {
        self.hidden > self.seen
    }
}

/// Name of a VM whose process is unknown.
pub(crate) fn fallback_name(pid: u32) -> String {
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
            libvirt: names::is_libvirt_domain(vmm, &arguments),
            vcpus,
            threads: threads
                .into_iter()
                .filter_map(|(tid, name)| Some((tid, vmm.vcpu_of_thread(&name)?)))
                .collect(),
            arguments,
        }
    }

    /// The same VM without command line and monitors, as stored in files.
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

    /// Replaces the VM by its later state; threads that have ended are kept.
    pub fn update(&mut self, later: Self) {
        let mut threads = std::mem::take(&mut self.threads);
        threads.extend(later.threads);
        *self = Self { threads, ..later };
    }

    /// Whether the user's text denotes this VM: its process ID or its exact name.
    pub fn matches(&self, wanted: &str) -> bool {
        self.name == wanted || wanted.parse() == Ok(self.pid)
    }

    /// Reason why QEMU can't be asked for its memory tree; `None` if it can.
    pub fn no_qmp(&self) -> Option<NoQmp> {
        match self.vmm {
            _ if !self.monitors.is_empty() => None,
            Vmm::Qemu if qemu::has_monitor(&self.arguments) => Some(NoQmp::NoPath),
            Vmm::Qemu => Some(NoQmp::NotAsked),
            _ => Some(NoQmp::NotQemu),
        }
    }
}
