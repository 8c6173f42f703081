//! Durations of exits: the kernel side's histogram without empty buckets at its ends.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use vmexit_common::histogram::{BUCKETS, bounds_of, bucket_of};

/// Counts of successive buckets, four per octave; inline for most rows.
type BucketCounts = SmallVec<[u64; 16]>;

/// Histogram of durations (buckets: [`vmexit_common::histogram`]).
///
/// In files: a pair for each non-empty bucket, its lower bound in nanoseconds and its count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Durations {
    /// Index of the first bucket.
    first: usize,
    /// Counts of successive buckets from `first` on.
    counts: BucketCounts,
}

impl Durations {
    /// Histogram of `counts` for successive buckets from `first` on.
    pub fn new(first: usize, counts: impl IntoIterator<Item = u64>) -> Self {
        Self { first, counts: counts.into_iter().collect() }
    }

    /// Adds `count` durations of `ns` nanoseconds.
    pub fn record(&mut self, ns: u64, count: u64) {
        self.add(bucket_of(ns), count);
    }

    /// Number of durations.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Non-empty buckets and their counts, shortest first.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (self.first..).zip(self.counts.iter().copied()).filter(|&(_, count)| count > 0)
    }

    /// Counts added since an earlier reading of the same histogram. Its counters wrap at 2^32.
    pub fn since(&self, before: &Self) -> Self {
        let difference = |bucket: usize, count: u64| {
            let before = bucket.checked_sub(before.first).and_then(|at| before.counts.get(at));
            u64::from((count as u32).wrapping_sub(before.copied().unwrap_or(0) as u32))
        };
        let counts = (self.first..).zip(&self.counts);
        Self {
            first: self.first,
            counts: counts.map(|(bucket, &count)| difference(bucket, count)).collect(),
        }
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.iter() {
            self.add(bucket, count);
        }
    }

    /// Scales all counts up so that they sum to `total`, apart from rounding. Does nothing if
    /// `total` is not larger than the present sum.
    pub(super) fn scale_to(&mut self, total: u64) {
        let timed = self.total();
        if timed == 0 || total <= timed {
            return;
        }
        for count in &mut self.counts {
            let scaled = u128::from(*count) * u128::from(total) + u128::from(timed) / 2;
            *count = u64::try_from(scaled / u128::from(timed)).unwrap_or(u64::MAX);
        }
    }

    /// Lowest and highest duration that the buckets allow, nanoseconds; zeros if there are none.
    pub fn range(&self) -> (u64, u64) {
        let low = self.iter().next().and_then(|(bucket, _)| bounds_of(bucket));
        let high = self.iter().last().and_then(|(bucket, _)| bounds_of(bucket));
        (low.map_or(0, |(low, _)| low), high.map_or(0, |(_, high)| high - 1))
    }

    fn add(&mut self, bucket: usize, count: u64) {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let new = self.first - bucket;
            self.counts.insert_many(0, std::iter::repeat_n(0, new));
            self.first = bucket;
        }
        let at = bucket - self.first;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += count;
    }
}

impl From<Durations> for Vec<(u64, u64)> {
    fn from(durations: Durations) -> Self {
        let pair = |(bucket, count)| Some((bounds_of(bucket)?.0, count));
        durations.iter().filter_map(pair).collect()
    }
}

impl TryFrom<Vec<(u64, u64)>> for Durations {
    type Error = &'static str;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        if pairs.len() > BUCKETS || !pairs.is_sorted_by(|one, two| one.0 < two.0) {
            return Err("histogram buckets out of order");
        }
        let mut durations = Self::default();
        for (from_ns, count) in pairs {
            let bucket = bucket_of(from_ns);
            if bounds_of(bucket).is_none_or(|(low, _)| low != from_ns) {
                return Err("unknown histogram bucket");
            }
            durations.add(bucket, count);
        }
        Ok(durations)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(durations: &[u64]) -> Durations {
        let mut sum = Durations::default();
        durations.iter().for_each(|&ns| sum.record(ns, 1));
        sum
    }

    #[test]
    fn durations_since_subtracts_wrapped_counts() {
        let before = Durations::new(7, [u32::MAX.into()]);
        let after = Durations::new(7, [0]);
        assert_eq!(after.since(&before).iter().collect::<Vec<_>>(), [(7, 1)]);
    }

    #[test]
    fn durations_of_unknown_or_unsorted_buckets_are_rejected() {
        for pairs in [vec![(65, 1)], vec![(80, 1), (64, 1)], vec![(64, 1), (64, 1)]] {
            assert!(Durations::try_from(pairs.clone()).is_err(), "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn durations_merge_and_since_are_inverse(mut durations in prop::collection::vec(0u64..1 << 40, 0..50), cut in 0usize..50) {
            let whole = of(&durations);
            let cut = cut.min(durations.len());
            let (one, other) = durations.split_at(cut);
            let mut merged = of(one);
            merged.merge(&of(other));
            prop_assert!(merged.iter().eq(whole.iter()));
            prop_assert!(whole.since(&of(one)).iter().eq(of(other).iter()));
            prop_assert_eq!(whole.total(), durations.len() as u64);
            let pairs = Vec::from(whole.clone());
            prop_assert!(Durations::try_from(pairs).unwrap().iter().eq(whole.iter()));
            durations.sort_unstable();
            if let (Some(&first), Some(&last)) = (durations.first(), durations.last()) {
                let (low, high) = whole.range();
                prop_assert!(low <= first && (last <= high || last >= 1 << 37));
            }
        }
    }
}
