//! What runs in a VM: concluded from what the guest does and what it was given.

use vmexit_common::key::Kind;

use super::{Confidence, GuestOs, Os, assess::Assessed};
use crate::{
    device::names::msr,
    vm::{Feature, Profile},
};

/// What the guest does tells more than what it was given. A Linux with both at hand uses KVM's interfaces
/// (`detect_hypervisor_vendor`, arch/x86/kernel/cpu/hypervisor.c: the higher leaf of CPUID wins).
pub(super) fn of(vm: &Assessed<'_>) -> GuestOs {
    let unknown = Profile::default();
    let profile = vm.guest.map_or(&unknown, |guest| &guest.profile);
    let has = |feature| profile.has(feature) == Some(true);
    let details = || vm.tables().details.values().flatten().map(|row| &row.subject);
    let calls = |kind: Kind| details().any(|subject| subject.kind == kind);
    let msrs = |is_one: fn(u32) -> bool| {
        let registers = details().filter(|subject| subject.kind == Kind::Msr);
        registers.filter_map(|subject| subject.number).any(|number| is_one(number as u32))
    };
    let signs = [
        (
            msrs(msr::is_hyperv) || calls(Kind::HvHypercall),
            Os::Windows,
            Confidence::High,
            "it uses Hyper-V's registers or calls",
        ),
        (
            msrs(msr::is_kvm) || calls(Kind::Hypercall),
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
