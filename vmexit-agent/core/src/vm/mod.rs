//! Virtual machines: a [`Vm`] is derived from the facts of a VMM's process. Nothing here reads
//! `/proc`.

mod bound;
mod names;
mod qemu;
mod vmm;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use self::{
    bound::{MAX_NAME, bounded_name},
    qemu::{Address, Feature, Monitor, Profile},
    vmm::Vmm,
};

/// A process that holds a KVM VM; one that holds several counts as one VM.
///
/// Text fields are untrusted: the user who started the VM chose them. They have at most [`MAX_NAME`]
/// bytes of any content, and must be escaped before they are printed. Nothing else of the command line
/// is kept, as it can be long and may contain secrets.
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
    /// Whether QEMU's command line has a monitor of any kind, with or without a socket.
    #[serde(skip)]
    pub has_monitor: bool,
    /// Whether the command line is longer than what is read of it.
    #[serde(skip)]
    pub command_line_cut: bool,
}

/// Most threads of a VM whose vCPU numbers are kept: KVM's limit of vCPUs (`KVM_MAX_VCPUS`,
/// arch/x86/include/asm/kvm_host.h).
const MAX_THREADS: usize = 4096;

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
    /// Returns it with a name of at most [`MAX_NAME`] bytes.
    fn bounded(self) -> Self {
        match self {
            Self::Named(name) => Self::Named(bounded_name(&name).into_owned()),
            other => other,
        }
    }

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
    /// Command line, or its beginning.
    pub arguments: Vec<String>,
    /// Whether the command line is longer than `arguments`.
    pub command_line_cut: bool,
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
    /// Processes whose files could not be listed, and that could be a VM.
    pub hidden: usize,
    /// Process IDs of the first of them.
    pub hidden_pids: Vec<u32>,
    /// Processes whose files could not be listed, of any kind.
    pub denied: usize,
    /// Capabilities that listing them takes and that this process lacks.
    pub missing: Vec<&'static str>,
}

impl FoundVms {
    /// Whether so many processes are hidden that finding no VM means nothing. Even root may be
    /// denied access to a few processes, such as a container's init.
    pub fn is_blind(&self) -> bool {
        self.denied > self.seen
    }
}

/// Name of a VM whose process is unknown.
pub(crate) fn fallback_name(pid: u32) -> String {
    format!("pid {pid}")
}

impl Vm {
    /// The VM of a process.
    pub fn of(process: ProcessFacts) -> Self {
        let ProcessFacts { pid, program, arguments, command_line_cut, command, threads, vcpus } =
            process;
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
            name: bounded_name(&name.unwrap_or(command)).into_owned(),
            vmm,
            machine: if is_qemu { qemu::machine(&arguments).bounded() } else { Machine::Unknown },
            profile: if is_qemu { Profile::of(&arguments) } else { Profile::default() },
            uuid: is_qemu.then(|| qemu::uuid(&arguments)).flatten(),
            libvirt: names::is_libvirt_domain(vmm, &arguments),
            vcpus,
            threads: threads
                .into_iter()
                .filter_map(|(tid, name)| Some((tid, vmm.vcpu_of_thread(&name)?)))
                .take(MAX_THREADS)
                .collect(),
            has_monitor: is_qemu && qemu::has_monitor(&arguments),
            command_line_cut,
        }
    }

    /// The same VM without monitors, as stored in files.
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
            has_monitor: false,
            command_line_cut: false,
        }
    }

    /// Replaces the VM by its later state. Threads that have ended are kept, up to a bound.
    pub fn update(&mut self, later: Self) {
        let mut threads = std::mem::take(&mut self.threads);
        let room = MAX_THREADS.saturating_sub(later.threads.len());
        while threads.len() > room {
            threads.pop_first();
        }
        threads.extend(later.threads);
        *self = Self { threads, ..later };
    }

    /// Whether the user's text denotes this VM: its process ID or its exact name, which may be longer
    /// than what is kept of it.
    pub fn matches(&self, wanted: &str) -> bool {
        self.has_name(wanted) || wanted.parse() == Ok(self.pid)
    }

    /// Whether this is the VM's name, in full or as kept.
    pub fn has_name(&self, wanted: &str) -> bool {
        self.name == bounded_name(wanted)
    }

    /// Reason why QEMU can't be asked for its memory tree; `None` if it can.
    pub fn no_qmp(&self) -> Option<NoQmp> {
        match self.vmm {
            _ if !self.monitors.is_empty() => None,
            Vmm::Qemu if self.has_monitor => Some(NoQmp::NoPath),
            Vmm::Qemu => Some(NoQmp::NotAsked),
            _ => Some(NoQmp::NotQemu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu(arguments: &[&str]) -> Vm {
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        Vm::of(ProcessFacts { pid: 7, arguments, ..ProcessFacts::default() })
    }

    #[test]
    fn vm_with_long_texts_keeps_bounded_ones() {
        let [name, other] = ["a", "b"].map(|end| "x".repeat(100_000) + end);
        let vm = qemu(&["qemu-kvm", "-name", &name, "-M", &name, "-uuid", &name]);
        assert!(vm.name.len() <= MAX_NAME && vm.name != qemu(&["qemu-kvm", "-name", &other]).name);
        assert!(vm.machine.name().is_some_and(|machine| machine.len() <= MAX_NAME));
        assert_eq!(vm.uuid, None);
        assert!(vm.matches(&name) && vm.matches(&vm.name) && !vm.matches(&other));
    }

    #[test]
    fn vm_with_long_libvirt_name_has_no_libvirt_monitor() {
        let arguments = |name: &str| {
            let mon = "chardev=charmonitor,mode=control";
            qemu(&[
                "qemu-kvm",
                "-name",
                name,
                "-chardev",
                "socket,id=charmonitor,fd=3",
                "-mon",
                mon,
            ])
        };
        let long = arguments(&"x".repeat(252));
        assert!(long.monitors.is_empty() && long.no_qmp() == Some(NoQmp::NoPath), "{long:?}");
        assert_eq!(arguments(&"x".repeat(251)).monitors.len(), 1);
    }

    #[test]
    fn updated_vm_keeps_bounded_threads() {
        let with = |threads: std::ops::Range<u32>| Vm {
            threads: threads.map(|tid| (tid, 0)).collect(),
            ..Vm::default()
        };
        let mut vm = with(0..10);
        vm.update(with(10..20));
        assert_eq!(vm.threads.len(), 20);
        for round in 1..5 {
            vm.update(with(round * 4000..(round + 1) * 4000));
        }
        assert_eq!(vm.threads.len(), MAX_THREADS);
        assert!(vm.threads.contains_key(&19_999));
    }
}
