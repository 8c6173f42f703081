//! Raw monotone counters at one instant, as read from the kernel's maps, and the [`Interval`]
//! between two such readings. No names, no shares: that is the model's.

mod interval;

use std::collections::BTreeMap;

pub use interval::{Interval, RowInterval, VcpuInterval};
use vmexit_common::{
    book::Row,
    histogram::Buckets,
    vcpu::{Loss, Vcpu},
};

/// Everything the kernel side has counted up to one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was read: `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// The vCPU threads seen so far.
    pub vcpus: Vec<VcpuReading>,
    /// What could not be noted on a vCPU, over all CPUs.
    pub loss: Loss,
    /// Events that a program was not run for, by tracepoint: it, or another on the same CPU, was
    /// running already. The kernel's own count; 0 where it keeps none.
    pub missed: BTreeMap<&'static str, u64>,
    /// Entries that a writer held so long that the reading may be inconsistent by one exit.
    pub torn: u64,
}

/// One vCPU thread's entry and book.
#[derive(Clone, Debug)]
pub struct VcpuReading {
    /// The thread's entry.
    pub vcpu: Vcpu,
    /// The rows in use, by exit reason.
    pub reasons: Vec<RowReading>,
    /// The rows in use, by detail.
    pub details: Vec<RowReading>,
}

/// One row and its histogram.
#[derive(Clone, Debug)]
pub struct RowReading {
    /// The counters.
    pub row: Row,
    /// Durations of the timed exits.
    pub histogram: Box<Buckets>,
}
