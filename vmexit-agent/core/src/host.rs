//! The host that was measured, as reports name it.

use serde::{Deserialize, Serialize};

use crate::vendor::Vendor;

/// Host name, kernel and KVM module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// CPUs that vmexit may run on.
    pub cpus: usize,
    /// Vendor of the KVM module; null where it is neither Intel's nor AMD's.
    pub vendor: Option<Vendor>,
    /// The KVM module behind `/dev/kvm`, such as `kvm_intel`.
    pub kvm_module: Option<String>,
}
