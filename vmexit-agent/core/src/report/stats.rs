//! Figures of one row, from its counters and its histogram.

use hdrhistogram::Histogram;
use serde::Serialize;
use vmexit_common::histogram::{LAST_BUCKET, LOWEST_NS, bounds_of, midpoint_of};

use crate::counters::{Durations, RowInterval};

/// Figures of a row. Durations are from exit to entry, nanoseconds; null if no exit was timed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Exits; events if KVM reports no exits.
    pub samples: u64,
    /// Share of the VM's exits, percent; of the samples in its table for a detail.
    pub samples_percent: f64,
    /// Samples per second.
    pub per_second: f64,
    /// Exits that were timed.
    pub timed: u64,
    /// Sum of durations; if not every exit was timed, an estimate from those that were.
    pub total_ns: u64,
    /// Part of `total_ns` during which userspace (QEMU) had the vCPU; null if not captured. The
    /// rest is the kernel's, or waiting.
    pub userspace_ns: Option<u64>,
    /// Share of the VM's handled time, percent; null for waiting.
    pub time_percent: Option<f64>,
    /// Shortest duration. This and all fields below are null, or empty, also if no histograms were
    /// requested.
    pub min_ns: Option<u64>,
    /// Mean of the timed exits, exact.
    pub avg_ns: Option<u64>,
    /// Longest duration.
    pub max_ns: Option<u64>,
    /// Standard deviation, from the histogram.
    pub stddev_ns: Option<u64>,
    /// Standard error of the mean, percent of it: the ± of `perf kvm stat`.
    pub avg_error_percent: Option<f64>,
    /// Median; this and the other percentiles are within 12.5 %.
    pub p50_ns: Option<u64>,
    /// 90th percentile.
    pub p90_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// 99.9th percentile.
    pub p999_ns: Option<u64>,
    /// Non-empty buckets of the histogram, shortest first.
    pub histogram: Vec<Bucket>,
}

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Lower bound, nanoseconds.
    pub from_ns: u64,
    /// Upper bound, exclusive, nanoseconds; null for the last bucket, which is unbounded.
    pub to_ns: Option<u64>,
    /// Number of exits with a duration in the bucket.
    pub count: u64,
}

/// Totals that a row's shares and rates refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub samples: u64,
    /// Handled time; `None` for waiting rows, whose time is no cost.
    pub handled_ns: Option<u64>,
    pub span_ns: u64,
    /// Whether events without an exit count as samples: if KVM reports no exits.
    pub unmatched: bool,
    /// Whether time in userspace is known.
    pub userspace: bool,
}

impl Whole {
    /// Samples of a row.
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
        let percentiles = durations.and_then(percentiles);
        let average = row.total_ns.checked_div(timed);
        let total_ns = total_ns(row);
        let percentile = |index: usize| {
            // The extremes are exact, the buckets are not.
            Some(percentiles?[index].max(row.min_ns?).min(row.max_ns?))
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
            p50_ns: percentile(0),
            p90_ns: percentile(1),
            p99_ns: percentile(2),
            p999_ns: percentile(3),
            histogram: durations.map_or_else(Vec::new, buckets),
        }
    }
}

/// Time of all exits of a row, nanoseconds.
pub(super) fn total_ns(row: &RowInterval) -> u64 {
    scaled(row.total_ns, row.exits, row.timed)
}

/// Part of a row's time during which userspace had the vCPU, nanoseconds.
pub(super) fn user_ns(row: &RowInterval) -> u64 {
    scaled(row.user_ns, row.exits, row.timed)
}

/// Extrapolates the time of the timed exits to all exits.
pub(super) fn scaled(ns: u64, exits: u64, timed: u64) -> u64 {
    if timed == 0 || timed == exits {
        return ns;
    }
    let scaled = u128::from(ns) * u128::from(exits) / u128::from(timed);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Quantiles of the percentiles in [`Stats`].
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Durations at [`QUANTILES`], nanoseconds: midpoints of buckets.
///
/// An HDR histogram of one digit has 16 slots per octave, and from `LOWEST_NS / 8` on each midpoint
/// is the lowest value of a slot of its own.
fn percentiles(durations: &Durations) -> Option<[u64; 4]> {
    let longest_ns = midpoint_of(LAST_BUCKET)?;
    let mut histogram = Histogram::<u64>::new_with_bounds(LOWEST_NS / 8, longest_ns, 1).ok()?;
    for (bucket, count) in durations.iter() {
        histogram.record_n(midpoint_of(bucket)?, count).ok()?;
    }
    Some(
        QUANTILES
            .map(|quantile| histogram.lowest_equivalent(histogram.value_at_quantile(quantile))),
    )
}

/// Standard deviation, nanoseconds, of the buckets' midpoints. (`Histogram::stdev` takes the middle of
/// its own slots instead, which is up to 3 % above the midpoint.)
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

/// A share, percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// A rate per second; 0 without time.
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
    fn stats_shares_and_rates_match_totals() {
        let stats = stats(&[1_000, 2_000, 3_000, 4_000]);
        assert_eq!((stats.samples, stats.samples_percent, stats.per_second), (4, 40.0, 2.0));
        assert_eq!(
            (stats.total_ns, stats.time_percent, stats.avg_ns),
            (10_000, Some(1.0), Some(2_500))
        );
        assert_eq!((stats.min_ns, stats.max_ns), (Some(1_000), Some(4_000)));
    }

    #[test]
    fn stats_without_timed_exits_have_no_durations() {
        let stats = stats(&[]);
        assert_eq!(
            (stats.avg_ns, stats.p99_ns, stats.min_ns, stats.stddev_ns),
            (None, None, None, None)
        );
    }

    #[test]
    fn stats_time_of_partly_timed_row_is_extrapolated() {
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
    fn stats_of_one_sample_have_it_as_every_percentile() {
        let stats = stats(&[12_345]);
        assert_eq!((stats.p50_ns, stats.p999_ns), (Some(12_345), Some(12_345)));
        assert_eq!(stats.avg_error_percent, Some(0.0));
    }

    #[test]
    fn percentiles_of_each_bucket_are_its_midpoint() {
        for bucket in 0..=LAST_BUCKET {
            let midpoint = midpoint_of(bucket).unwrap();
            let durations = Durations::new(bucket, [1]);
            assert_eq!(percentiles(&durations), Some([midpoint; 4]), "bucket {bucket}");
        }
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
