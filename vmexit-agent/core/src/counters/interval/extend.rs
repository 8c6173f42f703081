//! Sums of consecutive intervals.
//!
//! Counts add up. Times are known of timed exits only. If the intervals timed different shares of
//! their exits, the timed exits of each are reweighted: each then stands for as many exits as one
//! of the sum.

use std::collections::HashMap;

use vmexit_common::key::Kind;

use super::{Interval, RowInterval, Thread, VcpuInterval, position_near};
use crate::{counters::MOST_TABLE_ROWS, timing::Shares};

impl Interval {
    /// Adds the next interval, which began `gap_ns` nanoseconds after this one ended.
    pub fn extend(&mut self, next: Self, gap_ns: u64, shares: Shares) {
        let mut places =
            self.vcpus.iter().enumerate().map(|(at, vcpu)| (vcpu.thread, at)).collect();
        self.extend_with(next, gap_ns, shares, &mut places);
    }

    /// The same with the index of each thread in `vcpus`, which is updated: sums of thousands of
    /// intervals keep it.
    pub(crate) fn extend_with(
        &mut self,
        next: Self,
        gap_ns: u64,
        shares: Shares,
        places: &mut HashMap<Thread, usize>,
    ) {
        self.span_ns += next.span_ns;
        self.unwatched_ns += gap_ns + next.unwatched_ns;
        self.loss = self.loss.with(&next.loss, |one, other| one + other);
        for (name, missed) in next.missed {
            *self.missed.entry(name).or_default() += missed;
        }
        self.torn += next.torn;
        for vcpu in next.vcpus {
            match places.get(&vcpu.thread).and_then(|&at| self.vcpus.get_mut(at)) {
                Some(known) => known.extend(vcpu, shares),
                None => {
                    places.insert(vcpu.thread, self.vcpus.len());
                    self.vcpus.push(vcpu);
                }
            }
        }
    }
}

impl VcpuInterval {
    /// Adds the next interval of the same thread, or an interval of another thread of the same VM.
    pub(crate) fn extend(&mut self, next: Self, shares: Shares) {
        self.vcpu_id = next.vcpu_id.or(self.vcpu_id);
        if next.isa != 0 {
            self.isa = next.isa;
        }
        self.observed += next.observed;
        self.in_flight_change += next.in_flight_change;
        self.lost_no_entry += next.lost_no_entry;
        self.halts = self.halts.with(&next.halts, |one, other| one + other);
        extend_rows(&mut self.reasons, next.reasons, shares);
        extend_rows(&mut self.details, next.details, shares);
    }
}

fn extend_rows(rows: &mut Vec<RowInterval>, next: Vec<RowInterval>, shares: Shares) {
    let mut expected = 0;
    for mut row in next {
        let mut at = position_near(rows, expected, |known| known.key == row.key);
        let is_full = rows.len() >= MOST_TABLE_ROWS && row.key.kind() != Some(Kind::Other);
        if at == rows.len() && is_full {
            row.key = row.key.other();
            at = position_near(rows, rows.len() - 1, |known| known.key == row.key);
        }
        match rows.get_mut(at) {
            Some(known) => {
                if shares == Shares::Different {
                    RowInterval::reweight(known, &mut row);
                }
                known.merge(&row);
            }
            None => rows.push(row),
        }
        expected = at + 1;
    }
}

impl RowInterval {
    /// Scales times and histograms so that a timed exit of either row stands for as many exits as a
    /// timed exit of the sum.
    fn reweight(one: &mut Self, other: &mut Self) {
        if one.timed == 0 || other.timed == 0 {
            return;
        }
        let (exits, timed) = (one.exits + other.exits, one.timed + other.timed);
        for row in [one, other] {
            let reweighted = |ns: u64| {
                let reweighted = u128::from(ns) * u128::from(row.exits) * u128::from(timed)
                    / (u128::from(row.timed) * u128::from(exits)).max(1);
                u64::try_from(reweighted).unwrap_or(u64::MAX)
            };
            (row.total_ns, row.user_ns) = (reweighted(row.total_ns), reweighted(row.user_ns));
            if let Some(durations) = &mut row.durations {
                durations.scale_to(row.exits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmexit_common::key::Key;

    use super::*;

    fn row(durations: &[u64], exits: u64) -> RowInterval {
        RowInterval { exits, ..RowInterval::timed(Key::reason(1), durations) }
    }

    fn of(tid: u32, rows: Vec<RowInterval>) -> Interval {
        let thread = Thread { pid: 1, tid, since_ns: 5 };
        let observed = rows.iter().map(|row| row.exits).sum();
        let vcpu = VcpuInterval { thread, observed, reasons: rows, ..VcpuInterval::default() };
        Interval { span_ns: 10, vcpus: vec![vcpu], ..Interval::default() }
    }

    #[test]
    fn interval_extend_gap_is_unwatched_time() {
        let mut sum = of(1, vec![]);
        sum.extend(of(1, vec![]), 7, Shares::Same);
        sum.extend(of(2, vec![]), 0, Shares::Same);
        assert_eq!((sum.span_ns, sum.unwatched_ns, sum.vcpus.len()), (30, 7, 2));
    }

    #[test]
    fn interval_extend_weights_timed_exits_by_their_interval() {
        // 100 exits of 1 µs, all timed; then 1,000 of 10 µs, ten of them timed.
        let mut sum = of(1, vec![row(&[1_000; 100], 100)]);
        sum.extend(of(1, vec![row(&[10_000; 10], 1_000)]), 0, Shares::Different);
        let row = &sum.vcpus[0].reasons[0];
        assert_eq!((row.exits, row.timed), (1_100, 110));
        let estimate = row.total_ns as f64 * row.exits as f64 / row.timed as f64;
        assert!((estimate - 10_100_000.0).abs() < 100.0, "{estimate}");
        let counts: Vec<u64> = row.durations.as_ref().unwrap().iter().map(|(_, n)| n).collect();
        assert_eq!(counts, [100, 1_000]);
    }

    #[test]
    fn interval_extend_untimed_takes_mean_of_timed() {
        let mut sum = of(1, vec![row(&[1_000; 100], 100)]);
        sum.extend(of(1, vec![row(&[], 100)]), 0, Shares::Different);
        let row = &sum.vcpus[0].reasons[0];
        assert_eq!((row.exits, row.timed, row.total_ns), (200, 100, 100_000));
    }

    proptest! {
        #[test]
        fn interval_extend_of_parts_equals_whole(durations in prop::collection::vec(0u64..1 << 40, 1..60), cut in 0usize..60) {
            let (one, other) = durations.split_at(cut.min(durations.len()));
            let all = |part: &[u64]| of(1, vec![row(part, part.len() as u64)]);
            for shares in [Shares::Same, Shares::Different] {
                let mut sum = all(one);
                sum.extend(all(other), 0, shares);
                prop_assert_eq!(&sum.vcpus, &all(&durations).vcpus);
            }
        }
    }
}
