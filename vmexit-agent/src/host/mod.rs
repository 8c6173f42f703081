//! This host: kernel, KVM, capabilities, tracepoints and BTF.

pub mod btf;
pub mod preflight;
pub mod tracefs;

use std::{fs, path::Path};

use vmexit_core::{host::Host, reason::Names, vendor::Vendor};

use self::tracefs::Tracefs;

/// The running host.
pub fn current() -> Host {
    let uname = rustix::system::uname();
    let kvm_module = kvm_module(Path::new("/sys/module"));
    Host {
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

/// Names of exit reasons, from the running kernel's tracefs if it is readable, else built-in.
pub fn reason_names() -> Names {
    let format = Tracefs::find().and_then(|tracefs| tracefs.format("kvm_exit"));
    match format {
        Ok(format) => Names::of_format(&format),
        Err(error) => {
            log::debug!("using built-in names of exit reasons: {error}");
            Names::default()
        }
    }
}

/// ID of this boot (`/proc/sys/kernel/random/boot_id`); empty if it can't be read.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Name of the vendor's KVM module, such as `kvm_intel`.
fn kvm_module(modules: &Path) -> Option<String> {
    let names = fs::read_dir(modules).ok()?;
    let mut found: Vec<String> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("kvm_"))
        .collect();
    found.sort();
    found.into_iter().next()
}
