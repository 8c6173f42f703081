//! Steps of an interval: counts only, for charts over time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vmexit_common::key::Key;

use super::{Interval, VcpuInterval, key};

/// Counts of a part of an interval.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Step {
    /// Time observed, nanoseconds: the length without `unwatched_ns`.
    pub span_ns: u64,
    /// Time not observed within the step or after it, nanoseconds.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unwatched_ns: u64,
    /// Counts by VM and row.
    pub counts: Vec<Count>,
}

/// Count of one row.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Count {
    /// Process ID of the VMM.
    pub pid: u32,
    /// Key of an exit reason; if KVM reports no exits, the `other` key of a kind of detail.
    #[serde(with = "key")]
    pub key: Key,
    /// Exits or events.
    pub count: u64,
}

impl Step {
    /// The step that covers a whole interval.
    pub fn of(interval: &Interval) -> Self {
        let mut counts: BTreeMap<(u32, Key), u64> = BTreeMap::new();
        for vcpu in &interval.vcpus {
            for (key, count) in counts_of(vcpu) {
                *counts.entry((vcpu.thread.pid, key)).or_default() += count;
            }
        }
        let counts = counts.into_iter().filter(|&(_, count)| count > 0);
        Self {
            span_ns: interval.span_ns,
            unwatched_ns: interval.unwatched_ns,
            counts: counts.map(|((pid, key), count)| Count { pid, key, count }).collect(),
        }
    }

    /// Adds the next step.
    pub fn extend(&mut self, next: Self) {
        self.span_ns += next.span_ns;
        self.unwatched_ns += next.unwatched_ns;
        if next.counts.is_empty() {
            return;
        }
        // Both are sorted, unless a file was made by others: sorting then takes no time.
        self.counts.extend(next.counts);
        self.counts.sort_by_key(|count| (count.pid, count.key));
        self.counts.dedup_by(|later, earlier| {
            let same = (later.pid, later.key) == (earlier.pid, earlier.key);
            if same {
                earlier.count += later.count;
            }
            same
        });
    }
}

fn counts_of(vcpu: &VcpuInterval) -> impl Iterator<Item = (Key, u64)> {
    let reported = vcpu.isa != 0 || vcpu.observed > 0;
    let unmatched = vcpu.details.iter().filter(move |_| !reported);
    let reasons = vcpu.reasons.iter().map(|row| (row.key, row.exits));
    reasons.chain(unmatched.map(|row| (row.key.other(), row.unmatched)))
}
