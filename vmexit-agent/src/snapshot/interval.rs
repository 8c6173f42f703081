//! The difference of two snapshots. Counters only grow, so it is a subtraction; only the shortest
//! and the longest duration need care.

use std::collections::{BTreeMap, HashMap};

use vmexit_common::{book::Halts, key::Key, vcpu::Loss};

use super::{Durations, RowReading, Snapshot, Thread, VcpuReading};

/// What happened between two snapshots.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Its length, nanoseconds.
    pub span_ns: u64,
    /// The vCPU threads that lived in it.
    pub vcpus: Vec<VcpuInterval>,
    /// What could not be noted on a vCPU.
    pub loss: Loss,
    /// Events that a program was not run for, by tracepoint.
    pub missed: BTreeMap<&'static str, u64>,
    /// Readings that may be inconsistent by one exit.
    pub torn: u64,
}

/// One vCPU thread's part. `observed = recorded + opened + lost_no_entry`.
#[derive(Clone, Debug)]
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
    pub opened: i64,
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
#[derive(Clone, Debug, PartialEq)]
pub struct RowInterval {
    /// Which row.
    pub key: Key,
    /// Exits, timed or not.
    pub exits: u64,
    /// Events without an exit.
    pub stray: u64,
    /// Accesses beyond one for each exit and event: one string instruction can make many.
    pub more: u64,
    /// How many of the exits were timed.
    pub timed: u64,
    /// Sum of the timed exits' durations, nanoseconds.
    pub total_ns: u64,
    /// The part of it in which userspace had the vCPU, nanoseconds.
    pub user_ns: u64,
    /// Shortest duration, nanoseconds: exact where the row is new or it fell within the interval,
    /// else the lower bound of the first bucket hit. `None` if none was timed, or if nobody knows.
    pub min_ns: Option<u64>,
    /// Longest duration, nanoseconds, likewise.
    pub max_ns: Option<u64>,
    /// Durations of the timed exits, if both snapshots have them.
    pub durations: Option<Box<Durations>>,
}

impl Interval {
    /// What happened from `start` to `end`. A thread or row that `start` lacks began at zero.
    pub fn between(start: &Snapshot, end: &Snapshot) -> Self {
        let before: HashMap<Thread, &VcpuReading> =
            start.vcpus.iter().map(|reading| (reading.thread, reading)).collect();
        Self {
            span_ns: end.at_ns.saturating_sub(start.at_ns),
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
                    (name, missed.saturating_sub(before))
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
            opened: after.open as i64 - before.open as i64,
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
        self.observed as i64 - self.opened - accounted as i64
    }
}

/// Rows are never given back, so those of before are in both readings in the same order.
fn rows_between(before: &[RowReading], after: &[RowReading]) -> Vec<RowInterval> {
    let mut before = before.iter().peekable();
    let rows = after.iter().filter_map(|after| {
        match before.next_if(|before| before.row.key == after.row.key) {
            Some(before) => RowInterval::between(before, after),
            None => Some(RowInterval::since_zero(after)),
        }
    });
    rows.filter(|row| row.exits > 0 || row.stray > 0 || row.more > 0).collect()
}

impl RowInterval {
    fn since_zero(reading: &RowReading) -> Self {
        let row = &reading.row;
        let known = |ns| (row.max_ns != 0).then_some(ns);
        Self {
            key: Key(row.key),
            exits: row.exits,
            stray: row.stray,
            more: reading.more,
            timed: reading.timed(),
            total_ns: row.total_ns,
            user_ns: row.user_ns,
            min_ns: known(row.min_ns),
            max_ns: known(row.max_ns),
            durations: reading.durations.clone(),
        }
    }

    /// `None` if nothing happened.
    fn between(before: &RowReading, after: &RowReading) -> Option<Self> {
        let (old, new) = (&before.row, &after.row);
        if (new.exits, new.stray, after.more) == (old.exits, old.stray, before.more) {
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
            stray: new.stray.saturating_sub(old.stray),
            more: after.more.saturating_sub(before.more),
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
        self.stray += other.stray;
        self.more += other.more;
        self.timed += other.timed;
        self.total_ns += other.total_ns;
        self.user_ns += other.user_ns;
        match (&mut self.durations, &other.durations) {
            (Some(mine), Some(others)) => mine.merge(others),
            _ => self.durations = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use vmexit_common::{
        book::Row,
        histogram::{bounds_of, bucket_of},
    };

    use super::*;

    fn reading(durations: &[u64]) -> RowReading {
        let mut reading = RowReading {
            row: Row { key: Key::pio(0x608, 0, 4).0, ..Row::default() },
            more: 0,
            durations: Some(Box::default()),
        };
        for &ns in durations {
            reading.row.min_ns =
                if reading.row.exits == 0 { ns } else { reading.row.min_ns.min(ns) };
            reading.row.max_ns = reading.row.max_ns.max(ns);
            reading.row.exits += 1;
            reading.row.total_ns += ns;
            reading.durations.as_mut().unwrap().record(ns, 1);
        }
        reading
    }

    fn between(before: &[u64], all: &[u64]) -> RowInterval {
        rows_between(&[reading(before)], &[reading(all)]).remove(0)
    }

    #[test]
    fn a_new_record_is_exact() {
        let row = between(&[1_000, 2_000], &[1_000, 2_000, 500, 9_999]);
        assert_eq!((row.exits, row.total_ns), (2, 10_499));
        assert_eq!((row.min_ns, row.max_ns), (Some(500), Some(9_999)));
    }

    #[test]
    fn an_old_record_does_not_leak_into_the_interval() {
        let row = between(&[100, 1_000_000], &[100, 1_000_000, 5_000]);
        let (low, high) = bounds_of(bucket_of(5_000)).unwrap();
        assert_eq!((row.exits, row.min_ns, row.max_ns), (1, Some(low), Some(high - 1)));
    }

    #[test]
    fn without_durations_only_records_are_known() {
        let counts = |durations: &[u64]| RowReading { durations: None, ..reading(durations) };
        let between = |before, after| rows_between(&[counts(before)], &[counts(after)]).remove(0);
        let row = between(&[100, 900], &[100, 900, 500]);
        assert_eq!((row.timed, row.total_ns, row.min_ns, row.max_ns), (1, 500, None, None));
        let mut row = between(&[100, 900], &[100, 900, 50, 1_000]);
        assert_eq!((row.min_ns, row.max_ns), (Some(50), Some(1_000)));
        row.merge(&between(&[100, 900], &[100, 900, 500]));
        assert_eq!((row.timed, row.min_ns, row.durations), (3, None, None));
    }

    #[test]
    fn nothing_new_is_no_row() {
        assert!(rows_between(&[reading(&[700])], &[reading(&[700])]).is_empty());
    }

    #[test]
    fn a_new_row_may_come_between_old_ones() {
        let named = |key: u32, durations: &[u64]| {
            let mut reading = reading(durations);
            reading.row.key = Key::reason(key).0;
            reading
        };
        let before = [named(1, &[100]), named(3, &[300])];
        let after = [named(1, &[100, 100]), named(2, &[200]), named(3, &[300, 300, 300])];
        let rows = rows_between(&before, &after);
        let exits: Vec<u64> = rows.iter().map(|row| row.exits).collect();
        assert_eq!(exits, [1, 1, 2]);
    }

    #[test]
    fn merging_keeps_the_extremes_of_both() {
        let mut row = RowInterval::since_zero(&reading(&[700, 900]));
        row.merge(&RowInterval::since_zero(&reading(&[300])));
        row.merge(&RowInterval::since_zero(&reading(&[])));
        assert_eq!((row.exits, row.timed, row.total_ns), (3, 3, 1_900));
        assert_eq!((row.min_ns, row.max_ns), (Some(300), Some(900)));
    }
}
