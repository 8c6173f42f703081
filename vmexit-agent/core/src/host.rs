//! The measured host, as named in reports.

use serde::{Deserialize, Serialize};

use crate::vendor::Vendor;

/// Host name, kernel and KVM module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// CPUs available to vmexit.
    pub cpus: usize,
    /// Vendor of the KVM module; null if neither Intel nor AMD.
    pub vendor: Option<Vendor>,
    /// The KVM module behind `/dev/kvm`, such as `kvm_intel`.
    pub kvm_module: Option<String>,
}
