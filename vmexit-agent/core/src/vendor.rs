//! Vendor of the CPU, which determines the meaning of KVM's exit codes.

use serde::{Deserialize, Serialize};
use vmexit_common::vcpu::{ISA_SVM, ISA_VMX};

/// Virtualization extension. Exit codes have a different meaning on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Intel VT-x.
    Vmx,
    /// AMD SVM.
    Svm,
}

impl Vendor {
    /// The vendor of a `kvm_exit` record's `isa`.
    pub const fn of_isa(isa: u32) -> Option<Self> {
        match isa {
            ISA_VMX => Some(Self::Vmx),
            ISA_SVM => Some(Self::Svm),
            _ => None,
        }
    }

    /// The vendor's `isa` in `kvm_exit` records.
    pub const fn isa(self) -> u32 {
        match self {
            Self::Vmx => ISA_VMX,
            Self::Svm => ISA_SVM,
        }
    }

    /// Name in messages.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vmx => "Intel VMX",
            Self::Svm => "AMD SVM",
        }
    }
}
