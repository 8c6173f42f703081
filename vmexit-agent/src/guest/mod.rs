//! Who the virtual machines are: every process that holds a KVM VM, its name, and its vCPU threads.

mod qemu;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// `/proc` can't be read.
#[derive(Debug, Error)]
#[error("/proc can't be read, so no VM can be found: {0}")]
pub struct ProcError(#[from] io::Error);

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
    /// UNIX sockets on which QEMU was told to speak QMP.
    pub qmp: Vec<PathBuf>,
    /// vCPU number by thread id, where the VMM names its threads as QEMU does.
    pub threads: BTreeMap<u32, u32>,
}

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
pub fn find_all() -> Result<Found, ProcError> {
    let mut found = Found::default();
    for (pid, path) in numbered(Path::new("/proc"))? {
        match Vm::of(pid, &path) {
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

/// The VM of one process, if it holds one that we may see.
pub fn find(pid: u32) -> Option<Vm> {
    Vm::of(pid, &Path::new("/proc").join(pid.to_string())).ok()?.1
}

impl Vm {
    /// How many open files a process has, and the VM among them.
    fn of(pid: u32, process: &Path) -> io::Result<(usize, Option<Self>)> {
        let (mut is_vm, mut vcpus) = (false, 0);
        let links = numbered(&process.join("fd"))?;
        let files = links.len();
        for (_, link) in links {
            let target = match fs::read_link(link) {
                Ok(target) => target,
                // Closed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // virt/kvm/kvm_main.c: kvm_dev_ioctl_create_vm, create_vcpu_fd.
            let target = target.to_string_lossy();
            is_vm |= target == "anon_inode:kvm-vm";
            vcpus += usize::from(target.starts_with("anon_inode:kvm-vcpu:"));
        }
        if !is_vm {
            return Ok((files, None));
        }
        let arguments = arguments(&fs::read(process.join("cmdline")).unwrap_or_default());
        let vm = Self {
            pid,
            name: qemu::name(&arguments).unwrap_or_else(|| comm(process)),
            vcpus,
            qmp: qemu::qmp_sockets(&arguments),
            threads: threads(process),
        };
        Ok((files, Some(vm)))
    }

    /// Whether the user means this VM: its process id or its very name.
    pub fn answers_to(&self, wanted: &str) -> bool {
        self.name == wanted || wanted.parse() == Ok(self.pid)
    }
}

/// The entries of a directory of `/proc` whose names are numbers.
fn numbered(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir(directory)?.flatten();
    Ok(entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect())
}

/// A command line's arguments; what is not UTF-8 is replaced.
fn arguments(line: &[u8]) -> Vec<String> {
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The name of a process or thread; empty if it has gone.
fn comm(directory: &Path) -> String {
    let name = fs::read(directory.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

fn threads(process: &Path) -> BTreeMap<u32, u32> {
    let tasks = numbered(&process.join("task")).unwrap_or_default();
    tasks
        .into_iter()
        .filter_map(|(tid, task)| Some((tid, qemu::vcpu_of_thread(&comm(&task))?)))
        .collect()
}
