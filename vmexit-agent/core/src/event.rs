//! Events that can be captured.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::choice::Choice;

/// A kind of event on a vCPU. Each has its own tracepoints, and a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Exits by reason.
    Vmexit,
    /// I/O ports.
    Ioport,
    /// Addresses of device registers in memory, and doorbells.
    Mmio,
    /// Model-specific registers.
    Msr,
    /// CPUID leaves.
    Cpuid,
    /// Hypercalls to KVM and to its Hyper-V emulation.
    Hypercall,
    /// Page faults on guest memory.
    Fault,
    /// Exits to userspace.
    Userspace,
    /// Outcomes of halts.
    Halt,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 9] = [
        Self::Vmexit,
        Self::Ioport,
        Self::Mmio,
        Self::Msr,
        Self::Cpuid,
        Self::Hypercall,
        Self::Fault,
        Self::Userspace,
        Self::Halt,
    ];
}

#[rustfmt::skip]
impl Choice for Event {
    const CHOICES: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Vmexit,    "vmexit",    "Exits by reason: always captured"),
        (Self::Ioport,    "ioport",    "I/O ports"),
        (Self::Mmio,      "mmio",      "Addresses of device registers in memory, and doorbells"),
        (Self::Msr,       "msr",       "Model-specific registers"),
        (Self::Cpuid,     "cpuid",     "CPUID leaves"),
        (Self::Hypercall, "hypercall", "Hypercalls to KVM and to its Hyper-V emulation"),
        (Self::Fault,     "fault",     "Page faults on guest memory, by kind of access"),
        (Self::Userspace, "userspace", "Exits to userspace, by KVM_EXIT reason, and time there"),
        (Self::Halt,      "halt",      "Halts that slept or polled"),
    ];
}

/// Formats as the name in arguments and JSON.
impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
