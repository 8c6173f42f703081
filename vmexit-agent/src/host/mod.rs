//! What this host offers: the kernel, whose KVM it is, what tracepoints it has, and whether we may
//! use them.

pub mod btf;
pub mod preflight;
pub mod print_fmt;
pub mod tracefs;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::reason::Vendor;

/// The host, as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// Online CPUs.
    pub cpus: usize,
    /// Whose KVM module is loaded; null where it is neither Intel's nor AMD's.
    pub vendor: Option<Vendor>,
    /// The KVM module behind `/dev/kvm`, e.g. `kvm_intel`.
    pub kvm_module: Option<String>,
}

impl Host {
    /// Asks the running system.
    pub fn current() -> Self {
        let uname = rustix::system::uname();
        let kvm_module = kvm_module(Path::new("/sys/module"));
        Self {
            name: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            vendor: match kvm_module.as_deref() {
                Some("kvm_intel") => Some(Vendor::Vmx),
                Some("kvm_amd") => Some(Vendor::Svm),
                _ => None,
            },
            kvm_module,
        }
    }
}

/// What tells this run of the kernel from others; empty where the kernel does not say.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The vendor half of KVM: the other module whose name begins with `kvm_`.
fn kvm_module(modules: &Path) -> Option<String> {
    let names = fs::read_dir(modules).ok()?;
    let mut found: Vec<String> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("kvm_"))
        .collect();
    found.sort();
    found.into_iter().next()
}
