//! How long exits took, in buckets as Prometheus has them.

use vmexit_core::report::Stats;

/// Upper bounds, nanoseconds: each four times the one before, from 1 µs to 4 s. They are bounds of the
/// kernel's own buckets, so nothing is guessed.
const BOUNDS: [u64; 12] = {
    let mut bounds = [1 << 10; 12];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 4;
        at += 1;
    }
    bounds
};

/// Timed exits.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// By bucket; the last is of longer ones.
    counts: [u64; BOUNDS.len() + 1],
    sum_ns: u64,
}

impl Histogram {
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

    pub(super) fn seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds in seconds, and how many each bucket has for itself.
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
    fn bounds_are_bounds_of_the_kernels_buckets() {
        for bound in BOUNDS {
            let known = (0..=LAST_BUCKET).filter_map(bounds_of).any(|(_, to)| to == bound);
            assert!(known, "{bound}");
        }
    }
}
