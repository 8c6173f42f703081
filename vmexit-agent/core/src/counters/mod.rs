//! Raw monotone counters read from the kernel's maps, and the [`Interval`] between two readings.
//! Names and shares are added by [`report`](crate::report).

mod durations;
mod interval;
mod key;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vmexit_common::{
    stats::{Halts, StatsRow},
    vcpu::Loss,
};

pub(crate) use self::interval::position_near;
pub use self::{
    durations::Durations,
    interval::{Interval, RowInterval, VcpuInterval},
    step::{Count, Step},
};

/// Maximum number of rows per vCPU: a stats block has about 200, and imports make no more than
/// this.
pub(crate) const MOST_ROWS: usize = 1 << 10;
/// Maximum number of rows by reason, and of rows by detail, of a vCPU in a sum or an import. Rows beyond it
/// are added to the `other` row of their kind, of which there are fewer than 16.
pub(crate) const MOST_TABLE_ROWS: usize = MOST_ROWS / 2 - 16;

/// All counters of the kernel side at one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Time of the reading: `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Time until then during which nothing was counted, nanoseconds.
    pub unwatched_ns: u64,
    /// vCPU threads seen so far. A thread that has ended is in one more snapshot.
    pub vcpus: Vec<VcpuReading>,
    /// Events that found no stats block, summed over CPUs.
    pub loss: Loss,
    /// Events for which the kernel skipped the program, by tracepoint, because it or another
    /// program was already running on that CPU. The kernel's own count; 0 if it keeps none.
    pub missed: BTreeMap<&'static str, u64>,
    /// Stats blocks that were being written for so long that the reading may be inconsistent by
    /// one exit.
    pub torn: u64,
}

/// A vCPU thread. Thread IDs are reused; together with `since_ns` they are unique.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Thread {
    /// Process ID of the VMM.
    pub pid: u32,
    /// Thread ID.
    pub tid: u32,
    /// Time of its first event: `CLOCK_MONOTONIC`, nanoseconds.
    pub since_ns: u64,
}

/// One vCPU thread and its stats block.
#[derive(Clone, Debug, Default)]
pub struct VcpuReading {
    /// The vCPU thread.
    pub thread: Thread,
    /// vCPU number within its VM; `None` if the kernel does not report it.
    pub vcpu_id: Option<u32>,
    /// Instruction set of the exit codes (`isa` of `kvm_exit`); 0 without exits.
    pub isa: u32,
    /// Exits observed, including the one in flight.
    pub observed: u64,
    /// Exits in flight, that is without an entry yet: 0 or 1.
    pub in_flight: u64,
    /// Exits whose `kvm_entry` was not observed.
    pub lost_no_entry: u64,
    /// Outcomes of halts.
    pub halts: Halts,
    /// Used rows by exit reason, sorted by place.
    pub reasons: Vec<RowReading>,
    /// Used rows by detail, sorted by place; `other` rows come last.
    pub details: Vec<RowReading>,
}

/// One row and its histogram.
#[derive(Clone, Debug, Default)]
pub struct RowReading {
    /// Index of the row in the stats block.
    pub place: u16,
    /// Keys that had the row before. Their counters are in the `other` row of their kind.
    pub generation: u32,
    /// Counters of the key that has the row now.
    pub row: StatsRow,
    /// Accesses beyond one per exit or unmatched event.
    pub extra_accesses: u64,
    /// Histogram of the timed exits; `None` if not requested, which is most rows. Boxed to keep
    /// these small.
    pub durations: Option<Box<Durations>>,
}

impl Snapshot {
    /// Process IDs of the VMMs.
    pub fn pids(&self) -> BTreeSet<u32> {
        self.vcpus.iter().map(|reading| reading.thread.pid).collect()
    }
}

impl RowReading {
    /// Exits that were timed.
    pub fn timed(&self) -> u64 {
        let row = &self.row;
        // `max_ns` is 0 until an exit has been timed.
        if row.max_ns == 0 { 0 } else { row.exits.saturating_sub(row.untimed) }
    }

    /// Adds the counters of another row. The histogram is kept only if both have one.
    fn merge(&mut self, other: &Self) {
        let (mine, others) = (&mut self.row, &other.row);
        // Both extremes are 0 until an exit has been timed.
        if others.max_ns != 0 {
            mine.min_ns =
                if mine.max_ns == 0 { others.min_ns } else { mine.min_ns.min(others.min_ns) };
            mine.max_ns = mine.max_ns.max(others.max_ns);
        }
        mine.exits += others.exits;
        mine.unmatched += others.unmatched;
        mine.untimed += others.untimed;
        mine.total_ns += others.total_ns;
        mine.user_ns += others.user_ns;
        self.extra_accesses += other.extra_accesses;
        match (&mut self.durations, &other.durations) {
            (Some(mine), Some(others)) => mine.merge(others),
            _ => self.durations = None,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
