//! Parts of an interval, for what it looks like over time: counts alone, of which there are few.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vmexit_common::key::Key;

use super::{Interval, VcpuInterval, key};

/// What was counted in a part of an interval.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Step {
    /// How long was watched, nanoseconds: all of its length, but for what follows.
    pub span_ns: u64,
    /// Time in it, or behind it, that nobody watched, nanoseconds.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unwatched_ns: u64,
    /// By VM and row.
    pub counts: Vec<Count>,
}

/// How often something came.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Count {
    /// Process id of the VMM.
    pub pid: u32,
    /// An exit reason; where no exits are reported, the row that stands for all of a kind of detail.
    #[serde(with = "key")]
    pub key: Key,
    /// How often.
    pub count: u64,
}

impl Step {
    /// The same interval in short.
    pub fn of(interval: &Interval) -> Self {
        let mut counts: BTreeMap<(u32, Key), u64> = BTreeMap::new();
        for vcpu in &interval.vcpus {
            for (key, count) in counted(vcpu) {
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

    /// Adds the step that came next.
    pub fn extend(&mut self, next: Self) {
        self.span_ns += next.span_ns;
        self.unwatched_ns += next.unwatched_ns;
        for count in next.counts {
            match self
                .counts
                .iter_mut()
                .find(|known| (known.pid, known.key) == (count.pid, count.key))
            {
                Some(known) => known.count += count.count,
                None => self.counts.push(count),
            }
        }
    }
}

fn counted(vcpu: &VcpuInterval) -> impl Iterator<Item = (Key, u64)> {
    let reported = vcpu.isa != 0 || vcpu.observed > 0;
    let unmatched = vcpu.details.iter().filter(move |_| !reported);
    let reasons = vcpu.reasons.iter().map(|row| (row.key, row.exits));
    reasons.chain(unmatched.map(|row| (row.key.other(), row.unmatched)))
}
