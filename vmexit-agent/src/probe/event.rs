//! What is captured.

use std::fmt;

use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};

/// Something that happens to a vCPU; each has tracepoints of its own, and a price.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    Deserialize,
    Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Exits by reason: always captured
    Vmexit,
    /// The I/O ports that exits are for
    Ioport,
    /// The addresses of device registers in memory, and doorbells
    Mmio,
    /// Model-specific registers
    Msr,
    /// Leaves of CPUID
    Cpuid,
    /// Hypercalls, to KVM and to Hyper-V as KVM has it
    Hypercall,
    /// Page faults on guest memory, by kind of access
    Fault,
    /// Why exits go to userspace, and how long they stay there
    Userspace,
    /// Whether halts sleep or poll
    Halt,
}

impl Event {
    /// All there are.
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

/// As typed, and as in JSON.
impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| formatter.write_str(value.get_name()))
    }
}
