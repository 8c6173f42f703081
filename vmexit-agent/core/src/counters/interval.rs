//! The difference between two snapshots.
//!
//! Counters only grow, so most of it is subtraction. Two things need more: the shortest and longest
//! duration, and rows evicted in between. The counters of an evicted row, including those from
//! before the interval, are in its kind's `other` row.

mod extend;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use vmexit_common::{
    key::{Key, Kind},
    stats::Halts,
    vcpu::Loss,
};

use super::{Durations, RowReading, Snapshot, Thread, VcpuReading, key};

/// Counters of the time between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Interval {
    /// Time observed, nanoseconds: the length without `unwatched_ns`.
    pub span_ns: u64,
    /// Time not observed, nanoseconds: outside of sampling windows, or lost between recordings.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unwatched_ns: u64,
    /// vCPU threads that existed in the interval.
    pub vcpus: Vec<VcpuInterval>,
    /// Events that found no stats block.
    pub loss: Loss,
    /// Events for which the kernel skipped the program, by tracepoint.
    pub missed: BTreeMap<String, u64>,
    /// Readings that may be inconsistent by one exit.
    pub torn: u64,
}

/// Counters of one vCPU thread. `observed = recorded + in_flight_change + lost_no_entry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct VcpuInterval {
    /// The vCPU thread.
    pub thread: Thread,
    /// vCPU number within its VM; `None` if the kernel does not report it.
    pub vcpu_id: Option<u32>,
    /// Instruction set of the exit codes (`isa` of `kvm_exit`); 0 without exits.
    pub isa: u32,
    /// Exits observed.
    pub observed: u64,
    /// Exits in flight at the end minus those in flight at the start: -1, 0 or 1.
    #[serde(alias = "opened")]
    pub in_flight_change: i64,
    /// Exits whose `kvm_entry` was not observed.
    pub lost_no_entry: u64,
    /// Outcomes of halts.
    pub halts: Halts,
    /// Rows by exit reason.
    pub reasons: Vec<RowInterval>,
    /// Rows by detail: port, address, register, call and the like.
    pub details: Vec<RowInterval>,
}

/// Counters of one row.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RowInterval {
    /// Key of the row.
    #[serde(with = "key")]
    pub key: Key,
    /// Exits, timed or not.
    pub exits: u64,
    /// Events without an exit.
    #[serde(default, alias = "stray", skip_serializing_if = "super::is_zero")]
    pub unmatched: u64,
    /// Accesses beyond one per exit or event: one string instruction can make many.
    #[serde(default, alias = "more", skip_serializing_if = "super::is_zero")]
    pub extra_accesses: u64,
    /// Exits that were timed.
    pub timed: u64,
    /// Sum of the timed exits' durations, nanoseconds.
    pub total_ns: u64,
    /// Part of `total_ns` during which userspace had the vCPU, nanoseconds.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub user_ns: u64,
    /// Shortest duration, nanoseconds. Exact if the row is new or the shortest ever fell within the
    /// interval; otherwise the lower bound of the first bucket with an exit. `None` if no exit was
    /// timed or the duration is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ns: Option<u64>,
    /// Longest duration, nanoseconds; exact or a bucket's upper bound, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<u64>,
    /// Histogram of the timed exits; `None` unless both snapshots have histograms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durations: Option<Box<Durations>>,
}

impl Interval {
    /// Length from start to end, nanoseconds, including time not observed.
    pub fn length_ns(&self) -> u64 {
        self.span_ns.saturating_add(self.unwatched_ns)
    }

    /// The interval from `start` to `end`. Threads and rows missing in `start` began at zero.
    pub fn between(start: &Snapshot, end: &Snapshot) -> Self {
        let before: HashMap<Thread, &VcpuReading> =
            start.vcpus.iter().map(|reading| (reading.thread, reading)).collect();
        let unwatched_ns = end.unwatched_ns.saturating_sub(start.unwatched_ns);
        Self {
            span_ns: end.at_ns.saturating_sub(start.at_ns).saturating_sub(unwatched_ns),
            unwatched_ns,
            vcpus: end
                .vcpus
                .iter()
                .map(|after| VcpuInterval::between(before.get(&after.thread).copied(), after))
                .collect(),
            loss: end.loss.with(&start.loss, u64::saturating_sub),
            missed: end
                .missed
                .iter()
                .map(|(&name, &missed)| {
                    let before = start.missed.get(name).copied().unwrap_or(0);
                    (name.to_owned(), missed.saturating_sub(before))
                })
                .collect(),
            torn: start.torn + end.torn,
        }
    }
}

impl VcpuInterval {
    fn between(before: Option<&VcpuReading>, after: &VcpuReading) -> Self {
        let nothing = VcpuReading::default();
        let before = before.unwrap_or(&nothing);
        Self {
            thread: after.thread,
            vcpu_id: after.vcpu_id,
            isa: after.isa,
            observed: after.observed.saturating_sub(before.observed),
            in_flight_change: after.in_flight as i64 - before.in_flight as i64,
            lost_no_entry: after.lost_no_entry.saturating_sub(before.lost_no_entry),
            halts: after.halts.with(&before.halts, u64::saturating_sub),
            reasons: rows_between(&before.reasons, &after.reasons),
            details: rows_between(&before.details, &after.details),
        }
    }

    /// Exits recorded in the rows by reason.
    pub fn recorded(&self) -> u64 {
        self.reasons.iter().map(|row| row.exits).sum()
    }

    /// Exits observed that are neither recorded, in flight nor lost. A value other than 0 is a
    /// defect of vmexit, or a torn reading.
    pub fn unaccounted(&self) -> i64 {
        let accounted = self.recorded() + self.lost_no_entry;
        self.observed as i64 - self.in_flight_change - accounted as i64
    }
}

/// Subtracts rows. Both slices are sorted by place; `other` rows come after the evictable ones.
fn rows_between(before: &[RowReading], after: &[RowReading]) -> Vec<RowInterval> {
    let mut before = before.iter().peekable();
    // Allocated once: rows are large, and there can be hundreds of thousands.
    let (mut rows, mut evicted) = (Vec::with_capacity(after.len()), Vec::new());
    for after in after {
        let mut same = None;
        while let Some(row) = before.next_if(|before| before.place <= after.place) {
            if (row.place, row.generation) == (after.place, after.generation) {
                same = Some(row);
            } else {
                evicted.push(row);
            }
        }
        let row = match Key(after.row.key).kind() {
            Some(Kind::Other) => RowInterval::of_other_row(same, after, &evicted),
            _ => RowInterval::of(same, after),
        };
        rows.extend(row.filter(|row| row.exits > 0 || row.unmatched > 0 || row.extra_accesses > 0));
    }
    rows
}

impl RowInterval {
    fn since_zero(reading: &RowReading) -> Self {
        let row = &reading.row;
        let known = |ns| (row.max_ns != 0).then_some(ns);
        Self {
            key: Key(row.key),
            exits: row.exits,
            unmatched: row.unmatched,
            extra_accesses: reading.extra_accesses,
            timed: reading.timed(),
            total_ns: row.total_ns,
            user_ns: row.user_ns,
            min_ns: known(row.min_ns),
            max_ns: known(row.max_ns),
            durations: reading.durations.clone(),
        }
    }

    /// Interval of a row; `None` if nothing was counted in it.
    fn of(before: Option<&RowReading>, after: &RowReading) -> Option<Self> {
        match before {
            Some(before) => Self::between(before, after),
            None => Some(Self::since_zero(after)),
        }
    }

    /// Interval of an `other` row. Rows of the same kind that were evicted have added their
    /// counters to it, including those from before the interval; these are subtracted.
    fn of_other_row(
        before: Option<&RowReading>,
        after: &RowReading,
        evicted: &[&RowReading],
    ) -> Option<Self> {
        let table = |row: &RowReading| Key(row.row.key).table();
        let mut start = before.cloned();
        for row in evicted.iter().filter(|row| table(row) == table(after)) {
            match &mut start {
                Some(start) => start.merge(row),
                None => start = Some((*row).clone()),
            }
        }
        Self::of(start.as_ref(), after)
    }

    fn between(before: &RowReading, after: &RowReading) -> Option<Self> {
        let (old, new) = (&before.row, &after.row);
        if (new.exits, new.unmatched, after.extra_accesses)
            == (old.exits, old.unmatched, before.extra_accesses)
        {
            return None;
        }
        let timed = after.timed().saturating_sub(before.timed());
        let durations = match (&before.durations, &after.durations) {
            (Some(before), Some(after)) => Some(Box::new(after.since(before))),
            _ => None,
        };
        // A new extreme fell within the interval and is exact. Otherwise the buckets bound it, and the
        // extremes of the whole time bound the buckets.
        let range = durations.as_ref().filter(|_| timed > 0).map(|durations| durations.range());
        let first = old.max_ns == 0 && new.max_ns != 0;
        let shortest = first || new.min_ns < old.min_ns;
        let longest = first || new.max_ns > old.max_ns;
        Some(Self {
            key: Key(new.key),
            exits: new.exits.saturating_sub(old.exits),
            unmatched: new.unmatched.saturating_sub(old.unmatched),
            extra_accesses: after.extra_accesses.saturating_sub(before.extra_accesses),
            timed,
            total_ns: new.total_ns.saturating_sub(old.total_ns),
            user_ns: new.user_ns.saturating_sub(old.user_ns),
            min_ns: if shortest {
                Some(new.min_ns)
            } else {
                range.map(|(low, _)| low.max(new.min_ns))
            },
            max_ns: if longest {
                Some(new.max_ns)
            } else {
                range.map(|(_, high)| high.min(new.max_ns))
            },
            durations,
        })
    }

    /// Row of exits with these durations, nanoseconds, all of them timed.
    #[cfg(test)]
    pub(crate) fn timed(key: Key, durations: &[u64]) -> Self {
        let mut histogram = Durations::default();
        durations.iter().for_each(|&ns| histogram.record(ns, 1));
        Self {
            key,
            exits: durations.len() as u64,
            unmatched: 0,
            extra_accesses: 0,
            timed: durations.len() as u64,
            total_ns: durations.iter().sum(),
            user_ns: 0,
            min_ns: durations.iter().copied().min(),
            max_ns: durations.iter().copied().max(),
            durations: Some(Box::new(histogram)),
        }
    }

    /// Adds the same row of another vCPU.
    pub fn merge(&mut self, other: &Self) {
        // The extreme of the sum is unknown if one is, unless that one has no timed exits.
        let extreme =
            |pick: fn(u64, u64) -> u64, one: Option<u64>, two: Option<u64>| match (one, two) {
                (Some(one), Some(two)) => Some(pick(one, two)),
                (None, known) if self.timed == 0 => known,
                (known, None) if other.timed == 0 => known,
                _ => None,
            };
        self.min_ns = extreme(u64::min, self.min_ns, other.min_ns);
        self.max_ns = extreme(u64::max, self.max_ns, other.max_ns);
        self.exits += other.exits;
        self.unmatched += other.unmatched;
        self.extra_accesses += other.extra_accesses;
        self.timed += other.timed;
        self.total_ns += other.total_ns;
        self.user_ns += other.user_ns;
        match (&mut self.durations, &other.durations) {
            (Some(mine), Some(others)) => mine.merge(others),
            _ => self.durations = None,
        }
    }
}

/// Index of the first element that `matches`; the length if there is none. `expected` is tried
/// first: vCPUs of a VM, and a vCPU at different times, mostly have the same rows in the same
/// order.
pub(crate) fn position_near<T>(
    elements: &[T],
    expected: usize,
    matches: impl Fn(&T) -> bool,
) -> usize {
    if elements.get(expected).is_some_and(&matches) {
        return expected;
    }
    elements.iter().position(matches).unwrap_or(elements.len())
}

#[cfg(test)]
mod tests;
