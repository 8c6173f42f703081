//! The figures of one row, from its counters and its histogram.

use hdrhistogram::Histogram;
use serde::Serialize;
use vmexit_common::histogram::{
    HIGHEST_NS, LAST_BUCKET, LOWEST_NS, bounds_of, bucket_of, midpoint_of,
};

use crate::counters::{Durations, RowInterval};

/// What a row says. Durations are from exit to entry, nanoseconds; null where no exit was timed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Exits; events where the host does not report exits.
    pub samples: u64,
    /// Share of the VM's exits (of its port accesses in the table of ports), percent.
    pub samples_percent: f64,
    /// Per second.
    pub per_second: f64,
    /// Exits whose duration is known.
    pub timed: u64,
    /// MeasurementSum of durations; where not every exit was timed, estimated from those that were.
    pub total_ns: u64,
    /// The part of it in which userspace (QEMU) had the vCPU; null where that is not captured. The rest was the
    /// kernel's, or waiting.
    pub userspace_ns: Option<u64>,
    /// Share of the VM's handled time, percent; null for waiting.
    pub time_percent: Option<f64>,
    /// Shortest; this and all below are null, or empty, too where no durations were asked for.
    pub min_ns: Option<u64>,
    /// Mean of the timed exits, exact.
    pub avg_ns: Option<u64>,
    /// Longest.
    pub max_ns: Option<u64>,
    /// Standard deviation, from the histogram.
    pub stddev_ns: Option<u64>,
    /// Standard error of the mean, percent of it: what `perf kvm stat` shows as ±.
    pub avg_error_percent: Option<f64>,
    /// Median; this and the other percentiles are within 12.5 %.
    pub p50_ns: Option<u64>,
    /// 90 % are not longer.
    pub p90_ns: Option<u64>,
    /// 99 % are not longer.
    pub p99_ns: Option<u64>,
    /// 99.9 % are not longer.
    pub p999_ns: Option<u64>,
    /// The distribution: buckets that are not empty, shortest first.
    pub histogram: Vec<Bucket>,
}

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Shortest duration in it, nanoseconds.
    pub from_ns: u64,
    /// The first duration beyond it, nanoseconds; null for the last bucket, which has no end.
    pub to_ns: Option<u64>,
    /// Exits.
    pub count: u64,
}

/// What a row's shares are shares of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub samples: u64,
    /// `None` for a row whose time is no cost.
    pub handled_ns: Option<u64>,
    pub span_ns: u64,
    /// Count events without an exit as samples: where exits are not told apart from them.
    pub unmatched: bool,
    /// Whether it is known how long userspace had the vCPUs.
    pub userspace: bool,
}

impl Whole {
    /// How many samples a row has.
    pub(super) fn samples_of(&self, row: &RowInterval) -> u64 {
        if self.unmatched { row.exits + row.unmatched } else { row.exits }
    }
}

impl Stats {
    pub(super) fn of(row: &RowInterval, whole: &Whole) -> Self {
        let (samples, timed) = (whole.samples_of(row), row.timed);
        let durations = row.durations.as_deref();
        let durations =
            durations.filter(|durations| timed > 0 && durations.iter().next().is_some());
        let spread = durations.and_then(Spread::of);
        let average = row.total_ns.checked_div(timed);
        let total_ns = total_ns(row);
        let percentile = |q: f64| {
            let value = spread.as_ref()?.percentile(q)?;
            // The extremes are exact, the buckets are not.
            Some(value.max(row.min_ns?).min(row.max_ns?))
        };
        let deviation = durations.map(deviation);
        Self {
            samples,
            samples_percent: percent(samples, whole.samples),
            per_second: per_second(samples, whole.span_ns),
            timed,
            total_ns,
            userspace_ns: whole.userspace.then(|| user_ns(row)),
            time_percent: whole.handled_ns.map(|all| percent(total_ns, all)),
            min_ns: row.min_ns,
            avg_ns: average,
            max_ns: row.max_ns,
            stddev_ns: deviation.map(|deviation| deviation.round() as u64),
            avg_error_percent: deviation.zip(average).map(|(deviation, average)| {
                let error = deviation / (timed as f64).sqrt();
                100.0 * error / (average as f64).max(1.0)
            }),
            p50_ns: percentile(0.5),
            p90_ns: percentile(0.9),
            p99_ns: percentile(0.99),
            p999_ns: percentile(0.999),
            histogram: durations.map_or_else(Vec::new, buckets),
        }
    }
}

/// The time of all exits of a row, nanoseconds.
pub(super) fn total_ns(row: &RowInterval) -> u64 {
    scaled(row.total_ns, row.exits, row.timed)
}

/// That part of a row's time in which userspace had the vCPU, nanoseconds.
pub(super) fn user_ns(row: &RowInterval) -> u64 {
    scaled(row.user_ns, row.exits, row.timed)
}

/// The timed exits' time as that of all: as many times over as there are exits for each that was timed.
pub(super) fn scaled(ns: u64, exits: u64, timed: u64) -> u64 {
    if timed == 0 || timed == exits {
        return ns;
    }
    let scaled = u128::from(ns) * u128::from(exits) / u128::from(timed);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// The durations as an HDR histogram. One digit has 16 buckets to an octave, where ours have four: none
/// of ours share one, and what comes out leads back to the one that went in.
struct Spread(Histogram<u64>);

impl Spread {
    fn of(durations: &Durations) -> Option<Self> {
        let mut histogram = Histogram::new_with_bounds(LOWEST_NS / 4, HIGHEST_NS, 1).ok()?;
        for (bucket, count) in durations.iter() {
            histogram.record_n(midpoint_of(bucket)?, count).ok()?;
        }
        Some(Self(histogram))
    }

    /// The midpoint of the bucket below whose end this share of durations lies.
    fn percentile(&self, quantile: f64) -> Option<u64> {
        midpoint_of(bucket_of(self.0.value_at_quantile(quantile)))
    }
}

/// The standard deviation of some durations, nanoseconds.
fn deviation(durations: &Durations) -> f64 {
    let weighted = || {
        durations
            .iter()
            .filter_map(|(bucket, count)| Some((midpoint_of(bucket)? as f64, count as f64)))
    };
    let total: f64 = weighted().map(|(_, count)| count).sum();
    let mean = weighted().map(|(ns, count)| ns * count).sum::<f64>() / total;
    let variance = weighted().map(|(ns, count)| (ns - mean).powi(2) * count).sum::<f64>() / total;
    variance.sqrt()
}

fn buckets(durations: &Durations) -> Vec<Bucket> {
    durations
        .iter()
        .filter_map(|(bucket, count)| {
            let (from_ns, to_ns) = bounds_of(bucket)?;
            let to_ns = (bucket != LAST_BUCKET).then_some(to_ns);
            Some(Bucket { from_ns, to_ns, count })
        })
        .collect()
}

/// A share; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// A rate; 0 where there was no time.
pub fn per_second(count: u64, span_ns: u64) -> f64 {
    if span_ns == 0 { 0.0 } else { count as f64 * 1e9 / span_ns as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmexit_common::key::Key;

    use super::*;

    fn row(durations: &[u64]) -> RowInterval {
        RowInterval::timed(Key::reason(0), durations)
    }

    fn stats(durations: &[u64]) -> Stats {
        let (handled_ns, span_ns) = (Some(1_000_000), 2_000_000_000);
        Stats::of(
            &row(durations),
            &Whole { samples: 10, handled_ns, span_ns, unmatched: false, userspace: true },
        )
    }

    #[test]
    fn shares_and_rates() {
        let stats = stats(&[1_000, 2_000, 3_000, 4_000]);
        assert_eq!((stats.samples, stats.samples_percent, stats.per_second), (4, 40.0, 2.0));
        assert_eq!(
            (stats.total_ns, stats.time_percent, stats.avg_ns),
            (10_000, Some(1.0), Some(2_500))
        );
        assert_eq!((stats.min_ns, stats.max_ns), (Some(1_000), Some(4_000)));
    }

    #[test]
    fn nothing_timed_shows_no_time() {
        let stats = stats(&[]);
        assert_eq!(
            (stats.avg_ns, stats.p99_ns, stats.min_ns, stats.stddev_ns),
            (None, None, None, None)
        );
    }

    #[test]
    fn sums_are_estimated_where_one_in_so_many_was_timed() {
        let mut row = row(&[1_000, 3_000]);
        row.exits = 100;
        assert_eq!(total_ns(&row), 200_000);
        let whole = Whole {
            samples: 100,
            handled_ns: None,
            span_ns: 1,
            unmatched: false,
            userspace: false,
        };
        let stats = Stats::of(&row, &whole);
        assert_eq!((stats.samples, stats.timed, stats.avg_ns), (100, 2, Some(2_000)));
    }

    #[test]
    fn one_sample_is_every_percentile() {
        let stats = stats(&[12_345]);
        assert_eq!((stats.p50_ns, stats.p999_ns), (Some(12_345), Some(12_345)));
        assert_eq!(stats.avg_error_percent, Some(0.0));
    }

    proptest! {
        #[test]
        fn percentiles_are_within_an_eighth(mut durations in prop::collection::vec(64u64..100_000_000_000, 1..400)) {
            let stats = stats(&durations);
            durations.sort_unstable();
            for (q, shown) in [(0.5, stats.p50_ns), (0.9, stats.p90_ns), (0.99, stats.p99_ns)] {
                let rank = ((durations.len() as f64 * q).ceil() as usize).max(1);
                let (exact, shown) = (durations[rank - 1], shown.unwrap());
                let error = shown.abs_diff(exact) as f64 / exact as f64;
                prop_assert!(error <= 0.126, "p{q}: {exact} ns is shown as {shown} ns");
            }
        }
    }
}
