//! A VM as its process shows it.

use std::{collections::BTreeMap, fmt, io};

use serde::{Deserialize, Serialize};

use super::{Monitor, Profile, Vmm, names, process::Process, qemu};

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
    /// [`memory_tree`](crate::monitor::memory_tree).
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

impl Vm {
    /// How many open files a process has, and the VM among them.
    pub(super) fn of(process: &Process) -> io::Result<(usize, Option<Self>)> {
        let (mut files, mut is_vm, mut vcpus) = (0, false, 0);
        for file in process.files()? {
            files += 1;
            // virt/kvm/kvm_main.c: kvm_dev_ioctl_create_vm, create_vcpu_fd.
            let file = file?;
            let file = file.to_string_lossy();
            is_vm |= file == "anon_inode:kvm-vm";
            vcpus += usize::from(file.starts_with("anon_inode:kvm-vcpu:"));
        }
        if !is_vm {
            return Ok((files, None));
        }
        let (arguments, command) = (process.arguments(), process.name());
        let vmm = Vmm::of(process.program().as_deref(), &arguments, &command);
        let is_qemu = vmm == Vmm::Qemu;
        let threads = process.threads();
        let name = names::name(vmm, &arguments);
        let vm = Self {
            pid: process.pid,
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
                .filter_map(|(tid, name)| Some((tid, vmm.vcpu_of_thread(&name)?)))
                .collect(),
            arguments,
        };
        Ok((files, Some(vm)))
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
