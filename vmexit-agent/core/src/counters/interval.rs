//! The difference of two snapshots. Counters only grow, so it is a subtraction. What needs care are the
//! shortest and the longest duration, and rows that were given up in between: all that was booked on them,
//! also before, has gone to the row of all others of their kind.

mod extend;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use vmexit_common::{
    key::{Key, Kind},
    stats::Halts,
    vcpu::Loss,
};

use super::{Durations, RowReading, Snapshot, Thread, VcpuReading, key};

/// What happened between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Interval {
    /// How long was watched, nanoseconds: all of its length, but for what follows.
    pub span_ns: u64,
    /// Time in it that nobody watched, nanoseconds.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unwatched_ns: u64,
    /// The vCPU threads that lived in it.
    pub vcpus: Vec<VcpuInterval>,
    /// What could not be noted on a vCPU.
    pub loss: Loss,
    /// Events that a program was not run for, by tracepoint.
    pub missed: BTreeMap<String, u64>,
    /// Readings that may be inconsistent by one exit.
    pub torn: u64,
}

/// One vCPU thread's part. `observed = recorded + in_flight_change + lost_no_entry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct VcpuInterval {
    /// Whose.
    pub thread: Thread,
    /// The vCPU's number within its VM, where the kernel tells.
    pub vcpu_id: Option<u32>,
    /// Which vendor's exit codes these are, as the kernel numbers them; 0 if there were none.
    pub isa: u32,
    /// Exits seen.
    pub observed: u64,
    /// Exits open at the end less those open at the start: -1, 0 or 1.
    #[serde(alias = "opened")]
    pub in_flight_change: i64,
    /// Exits whose entry was never seen.
    pub lost_no_entry: u64,
    /// How its halts ended.
    pub halts: Halts,
    /// By exit reason.
    pub reasons: Vec<RowInterval>,
    /// By detail.
    pub details: Vec<RowInterval>,
}

/// One row's part.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RowInterval {
    /// Which row.
    #[serde(with = "key")]
    pub key: Key,
    /// Exits, timed or not.
    pub exits: u64,
    /// Events without an exit.
    #[serde(default, alias = "stray", skip_serializing_if = "super::is_zero")]
    pub unmatched: u64,
    /// Accesses beyond one for each exit and event: one string instruction can make many.
    #[serde(default, alias = "more", skip_serializing_if = "super::is_zero")]
    pub extra_accesses: u64,
    /// How many of the exits were timed.
    pub timed: u64,
    /// MeasurementSum of the timed exits' durations, nanoseconds.
    pub total_ns: u64,
    /// The part of it in which userspace had the vCPU, nanoseconds.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub user_ns: u64,
    /// Shortest duration, nanoseconds: exact where the row is new or it fell within the interval,
    /// else the lower bound of the first bucket hit. `None` if none was timed, or if nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ns: Option<u64>,
    /// Longest duration, nanoseconds, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<u64>,
    /// Durations of the timed exits, if both snapshots have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durations: Option<Box<Durations>>,
}

impl Interval {
    /// From its beginning to its end, nanoseconds.
    pub fn length_ns(&self) -> u64 {
        self.span_ns.saturating_add(self.unwatched_ns)
    }

    /// What happened from `start` to `end`. A thread or row that `start` lacks began at zero.
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

    /// Exits booked on a reason.
    pub fn recorded(&self) -> u64 {
        self.reasons.iter().map(|row| row.exits).sum()
    }

    /// Exits seen that are neither booked, open nor lost. Not zero is a defect of this tool, or a
    /// torn reading.
    pub fn unaccounted(&self) -> i64 {
        let accounted = self.recorded() + self.lost_no_entry;
        self.observed as i64 - self.in_flight_change - accounted as i64
    }
}

/// Both by place; the rows of all others come after those that can be given up.
fn rows_between(before: &[RowReading], after: &[RowReading]) -> Vec<RowInterval> {
    let mut before = before.iter().peekable();
    // At once: rows are large, and there can be hundreds of thousands.
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
            Some(Kind::Other) => RowInterval::of_others(same, after, &evicted),
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

    /// `None` if nothing happened.
    fn of(before: Option<&RowReading>, after: &RowReading) -> Option<Self> {
        match before {
            Some(before) => Self::between(before, after),
            None => Some(Self::since_zero(after)),
        }
    }

    /// Of a row for all others, to which those of its kind that were given up have handed over what they had,
    /// also from before.
    fn of_others(
        before: Option<&RowReading>,
        after: &RowReading,
        evicted: &[&RowReading],
    ) -> Option<Self> {
        let table = |row: &RowReading| Key(row.row.key).table();
        let mut had = before.cloned();
        for row in evicted.iter().filter(|row| table(row) == table(after)) {
            match &mut had {
                Some(had) => had.take_in(row),
                None => had = Some((*row).clone()),
            }
        }
        Self::of(had.as_ref(), after)
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
        // A new record fell within the interval; else only the buckets can tell, and they know no better
        // than the records do.
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

    /// Of exits that took so long, all of them timed.
    #[cfg(test)]
    pub(crate) fn timed(key: Key, durations: &[u64]) -> Self {
        let mut spread = Durations::default();
        durations.iter().for_each(|&ns| spread.record(ns, 1));
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
            durations: Some(Box::new(spread)),
        }
    }

    /// Adds another vCPU's part of the same row.
    pub fn merge(&mut self, other: &Self) {
        // Unknown, unless nothing was timed there.
        let of_both =
            |pick: fn(u64, u64) -> u64, one: Option<u64>, two: Option<u64>| match (one, two) {
                (Some(one), Some(two)) => Some(pick(one, two)),
                (None, known) if self.timed == 0 => known,
                (known, None) if other.timed == 0 => known,
                _ => None,
            };
        self.min_ns = of_both(u64::min, self.min_ns, other.min_ns);
        self.max_ns = of_both(u64::max, self.max_ns, other.max_ns);
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

/// Where a row's sum is, or is to be: where the last one's is followed by it, mostly, for the vCPUs of a VM,
/// and a vCPU at different times, have much the same rows in much the same order.
pub(crate) fn place<T>(sums: &[T], next: usize, is: impl Fn(&T) -> bool) -> usize {
    if sums.get(next).is_some_and(&is) {
        return next;
    }
    sums.iter().position(is).unwrap_or(sums.len())
}

#[cfg(test)]
mod tests;
