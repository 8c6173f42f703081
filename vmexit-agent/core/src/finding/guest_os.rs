//! Guest operating system, inferred from what the guest uses and what QEMU offers it.

use vmexit_common::key::Kind;

use super::{Confidence, GuestOs, Os, assess::Assessed};
use crate::{
    device::names::msr,
    vm::{Feature, Profile},
};

/// The guest operating system. Interfaces in use take precedence over those offered. A Linux guest
/// offered both uses KVM's (`detect_hypervisor_vendor`, arch/x86/kernel/cpu/hypervisor.c: the
/// higher CPUID leaf wins).
pub(super) fn of(vm: &Assessed<'_>) -> GuestOs {
    let unknown = Profile::default();
    let profile = vm.guest.map_or(&unknown, |guest| &guest.profile);
    let has = |feature| profile.has(feature) == Some(true);
    let details = || vm.tables().details.values().flatten().map(|row| &row.subject);
    let calls = |kind: Kind| details().any(|subject| subject.kind == kind);
    let msrs = |is_known: fn(u32) -> bool| {
        let registers = details().filter(|subject| subject.kind == Kind::Msr);
        registers.filter_map(|subject| subject.number).any(|number| is_known(number as u32))
    };
    let signs = [
        (
            msrs(msr::is_hyperv) || calls(Kind::HvHypercall),
            Os::Windows,
            Confidence::High,
            "it uses Hyper-V MSRs or hypercalls",
        ),
        (
            msrs(msr::is_kvm) || calls(Kind::Hypercall),
            Os::Linux,
            Confidence::High,
            "it uses KVM MSRs or hypercalls",
        ),
        (
            [Feature::HvTime, Feature::HvSynic, Feature::HvVapic, Feature::HvSpinlocks]
                .into_iter()
                .any(has),
            Os::Windows,
            Confidence::Medium,
            "QEMU offers it Hyper-V enlightenments",
        ),
        (has(Feature::DirectKernel), Os::Linux, Confidence::Medium, "QEMU loads its kernel"),
        (
            has(Feature::RtcLocaltime),
            Os::Windows,
            Confidence::Low,
            "its real-time clock is set to local time",
        ),
    ];
    let sign = signs.into_iter().find(|(applies, ..)| *applies);
    sign.map_or_else(GuestOs::default, |(_, os, confidence, because)| GuestOs {
        os,
        confidence,
        because,
    })
}
