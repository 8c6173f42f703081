//! Histogram of durations with a fixed, small number of buckets, for Prometheus.

use vmexit_core::report::Stats;

/// Upper bounds of the buckets, nanoseconds: 1 µs to 4 s, each four times the previous one. They are also bounds
/// of the kernel side's buckets, so counts are exact.
const BOUNDS: [u64; 12] = {
    let mut bounds = [1 << 10; 12];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 4;
        at += 1;
    }
    bounds
};

/// Durations of timed exits.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// Exits per bucket; the last bucket has no upper bound.
    counts: [u64; BOUNDS.len() + 1],
    sum_ns: u64,
}

impl Histogram {
    /// Adds the timed exits of a row.
    pub(super) fn add(&mut self, stats: &Stats) {
        for bucket in &stats.histogram {
            let at = BOUNDS.iter().position(|&bound| bucket.to_ns.is_some_and(|to| to <= bound));
            self.counts[at.unwrap_or(BOUNDS.len())] += bucket.count;
        }
        let timed_ns = if stats.timed == stats.samples {
            stats.total_ns
        } else {
            stats.avg_ns.unwrap_or(0).saturating_mul(stats.timed)
        };
        self.sum_ns = self.sum_ns.saturating_add(timed_ns);
    }

    /// Sum of the durations, seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Number of exits.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bound in seconds and number of exits of each bucket, not cumulative.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|&bound| bound as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use vmexit_common::histogram::{LAST_BUCKET, bounds_of};

    use super::*;

    #[test]
    fn histogram_bounds_are_bounds_of_kernel_buckets() {
        for bound in BOUNDS {
            let known = (0..=LAST_BUCKET).filter_map(bounds_of).any(|(_, to)| to == bound);
            assert!(known, "{bound}");
        }
    }
}
