//! Patterns that rules look for in a VM's tables.

use vmexit_common::key::Kind;

use crate::{
    kind::Direction,
    report::{Detail, Exit, Page},
    vendor::Vendor,
};

/// Rows of a VM's tables.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// Exits for one of these reasons, by name in vmexit's tables of both vendors. The names stand
    /// for exit codes: the running kernel's names do not matter.
    Exits(&'static [&'static str]),
    /// Accesses to a device's registers, by QEMU's names of its regions without the prefix `kvm-`.
    /// A star at the end matches any suffix. Names instead of addresses, as guests move devices. If
    /// QEMU could not be asked, the device is a guess.
    Device(&'static [&'static str]),
    /// Accesses to MSRs: first, last, direction.
    Msrs(u64, u64, Direction),
    /// The CPUID instruction.
    Cpuid,
    /// Hypercalls to KVM by number.
    KvmCalls(&'static [u64]),
    /// Hypercalls to Hyper-V by code.
    HyperVCalls(&'static [u64]),
    /// Page faults by the state of the page.
    Faults(Page),
    /// Writes that wake a thread and are handled in the kernel.
    Doorbells,
    /// Accesses to memory of an unknown device, handled in userspace.
    UnknownDevice,
    /// Halts in which KVM polled for a wakeup.
    Polling,
}

/// QEMU's names of the notification registers of virtio devices.
const NOTIFY: &str = "virtio-pci-notify*";

impl Pattern {
    pub(super) fn matches_exit(&self, exit: &Exit, vendor: Option<Vendor>) -> bool {
        let (Self::Exits(names), Some(code), Some(vendor)) = (self, exit.code, vendor) else {
            return false;
        };
        names.iter().any(|name| vendor.is_named(code, name))
    }

    pub(super) fn matches_detail(&self, row: &Detail, vendor: Option<Vendor>) -> bool {
        let subject = &row.subject;
        let Some(number) = subject.number else { return false };
        let is = |kind, numbers: &[u64]| subject.kind == kind && numbers.contains(&number);
        match self {
            Self::Exits(_) | Self::Polling => false,
            Self::Device(names) => names.iter().any(|name| is_device(row, name)),
            Self::Msrs(first, last, direction) => {
                subject.kind == Kind::Msr
                    && (*first..=*last).contains(&number)
                    && subject.direction == Some(*direction)
            }
            Self::Cpuid => subject.kind == Kind::Cpuid,
            Self::KvmCalls(calls) => is(Kind::Hypercall, calls),
            Self::HyperVCalls(calls) => is(Kind::HvHypercall, calls),
            Self::Faults(page) => {
                subject.kind == Kind::Fault && Page::of(vendor, number) == Some(*page)
            }
            // Without an event of their own, they are accesses that end in the kernel.
            Self::Doorbells => {
                subject.kind == Kind::FastMmio
                    || is_device(row, NOTIFY) && !is_mostly_userspace(row)
            }
            Self::UnknownDevice => {
                subject.kind == Kind::Mmio && subject.device.is_none() && is_mostly_userspace(row)
            }
        }
    }

    pub(super) fn is_polling(&self) -> bool {
        matches!(self, Self::Polling)
    }

    pub(super) fn matches_unknown_device(&self) -> bool {
        matches!(self, Self::UnknownDevice)
    }
}

fn is_device(row: &Detail, wanted: &str) -> bool {
    let device = row.subject.device.as_ref().filter(|_| row.subject.kind != Kind::FastMmio);
    let Some(name) = device.and_then(|device| device.name.as_deref()) else { return false };
    let name = name.strip_prefix("kvm-").unwrap_or(name);
    match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    }
}

/// Whether userspace had the vCPU for more than half of the time.
fn is_mostly_userspace(row: &Detail) -> bool {
    row.stats.userspace_ns.is_some_and(|ns| ns > row.stats.total_ns / 2)
}
