//! What runs in a VM: concluded from what the guest does and what it was given.

use serde::Serialize;

use super::{Confidence, assess::Scene};
use crate::{
    device::names::msr,
    guest::{Feature, Profile},
};

/// A family of guests that take different remedies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// Windows, and what else uses Hyper-V's interfaces.
    Windows,
    /// Linux, and what else uses KVM's.
    Linux,
    /// Nothing tells.
    #[default]
    Unknown,
}

/// What a guest is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestOs {
    /// Which.
    pub os: Os,
    /// How certain that is.
    pub confidence: Confidence,
    /// Why.
    pub because: &'static str,
}

impl Default for GuestOs {
    fn default() -> Self {
        Self { os: Os::Unknown, confidence: Confidence::Low, because: "nothing tells" }
    }
}

impl GuestOs {
    /// Which, where it is certain enough to leave out what is for others.
    pub(super) fn certain(&self) -> Option<Os> {
        (self.os != Os::Unknown && self.confidence > Confidence::Low).then_some(self.os)
    }
}

/// What the guest does tells more than what it was given. A Linux with both at hand uses KVM's interfaces
/// (`detect_hypervisor_vendor`, arch/x86/kernel/cpu/hypervisor.c: the higher leaf of CPUID wins).
pub(super) fn of(scene: &Scene<'_>) -> GuestOs {
    let unknown = Profile::default();
    let profile = scene.guest.map_or(&unknown, |guest| &guest.profile);
    let has = |feature| profile.has(feature) == Some(true);
    let details = || scene.tables.details.values().flatten().map(|row| &row.subject);
    let calls = |kind: &str| details().any(|subject| subject.kind == kind);
    let msrs = |start: &str| {
        let registers = details().filter(|subject| subject.kind == "msr");
        let mut names = registers.filter_map(|subject| msr::name(subject.number? as u32));
        names.any(|name| name.starts_with(start))
    };
    let signs = [
        (
            msrs("HV_X64_") || calls("hyperv_hypercall"),
            Os::Windows,
            Confidence::High,
            "it uses Hyper-V's registers or calls",
        ),
        (
            msrs("KVM_") || calls("kvm_hypercall"),
            Os::Linux,
            Confidence::High,
            "it uses KVM's registers or calls",
        ),
        (
            [Feature::HvTime, Feature::HvSynic, Feature::HvVapic, Feature::HvSpinlocks]
                .into_iter()
                .any(has),
            Os::Windows,
            Confidence::Medium,
            "it is offered Hyper-V's enlightenments",
        ),
        (has(Feature::DirectKernel), Os::Linux, Confidence::Medium, "QEMU loads its kernel"),
        (
            has(Feature::RtcLocaltime),
            Os::Windows,
            Confidence::Low,
            "its real-time clock has local time",
        ),
    ];
    let sign = signs.into_iter().find(|(is, ..)| *is);
    sign.map_or_else(GuestOs::default, |(_, os, confidence, because)| GuestOs {
        os,
        confidence,
        because,
    })
}
