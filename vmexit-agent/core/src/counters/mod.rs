//! Raw monotone counters at one instant, as read from the kernel's maps, and the [`Interval`]
//! between two such readings. No names, no shares: that is the model's.

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

pub(crate) use self::interval::place;
pub use self::{
    durations::Durations,
    interval::{Interval, RowInterval, VcpuInterval},
    step::{Count, Step},
};

/// Everything the kernel side has counted up to one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was read: `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// For how long nothing was counted until then, nanoseconds.
    pub unwatched_ns: u64,
    /// The vCPU threads seen so far; one that has ended is in the next snapshot for the last time.
    pub vcpus: Vec<VcpuReading>,
    /// What could not be noted on a vCPU, over all CPUs.
    pub loss: Loss,
    /// Events that a program was not run for, by tracepoint: it, or another on the same CPU, was
    /// running already. The kernel's own count; 0 where it keeps none.
    pub missed: BTreeMap<&'static str, u64>,
    /// Books that a writer held so long that the reading may be inconsistent by one exit.
    pub torn: u64,
}

/// A thread that runs a vCPU, or did. Thread ids come back; together with the time they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Thread {
    /// Process id of the VMM.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// When it was first seen: `CLOCK_MONOTONIC`, nanoseconds.
    pub since_ns: u64,
}

/// One vCPU thread and its book.
#[derive(Clone, Debug, Default)]
pub struct VcpuReading {
    /// Whose.
    pub thread: Thread,
    /// The vCPU's number within its VM, where the kernel tells.
    pub vcpu_id: Option<u32>,
    /// Which vendor's exit codes these are, as the kernel numbers them; 0 if there were none.
    pub isa: u32,
    /// Exits seen, the open one included.
    pub observed: u64,
    /// Exits that have begun and not ended: 0 or 1.
    pub in_flight: u64,
    /// Exits whose entry was never seen.
    pub lost_no_entry: u64,
    /// How its halts ended.
    pub halts: Halts,
    /// The rows in use, by exit reason, in the order of their places.
    pub reasons: Vec<RowReading>,
    /// The rows in use, by detail, likewise; those for what found none of its own come last.
    pub details: Vec<RowReading>,
}

/// One row and its histogram.
#[derive(Clone, Debug, Default)]
pub struct RowReading {
    /// Where in the book.
    pub place: u16,
    /// How many keys had the place before. What was booked on those is on the row of all others of their kind.
    pub generation: u32,
    /// The counters.
    pub row: StatsRow,
    /// Accesses beyond one for each exit and stray event.
    pub extra_accesses: u64,
    /// Durations of the timed exits; `None` where nobody asked for them, which is most rows: apart, so that
    /// these stay small.
    pub durations: Option<Box<Durations>>,
}

impl Snapshot {
    /// The processes whose threads are in it.
    pub fn pids(&self) -> BTreeSet<u32> {
        self.vcpus.iter().map(|reading| reading.thread.pid).collect()
    }
}

impl VcpuReading {
    /// The counts alone.
    pub fn without_durations(mut self) -> Self {
        for row in self.reasons.iter_mut().chain(&mut self.details) {
            row.durations = None;
        }
        self
    }

    /// Gives each row a place of its own, in their order: for a reading that comes from no book.
    pub fn placed(mut self) -> Self {
        for rows in [&mut self.reasons, &mut self.details] {
            (0..).zip(rows).for_each(|(place, row)| row.place = place);
        }
        self
    }
}

impl RowReading {
    /// How many of the exits were timed.
    pub fn timed(&self) -> u64 {
        let row = &self.row;
        // The longest is 0 until one was.
        if row.max_ns == 0 { 0 } else { row.exits.saturating_sub(row.untimed) }
    }
    /// Adds what another row had, whose durations are known if this one's are.
    fn take_in(&mut self, other: &Self) {
        let (mine, others) = (&mut self.row, &other.row);
        // Both are 0 until an exit was timed.
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
