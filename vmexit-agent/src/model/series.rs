//! What VMs did over time.

use std::collections::BTreeMap;

use serde::Serialize;
use vmexit_common::key::Key;

use super::{
    build::{Frame, code_of, reason_name},
    detail::event,
};
use crate::{probe::Event, snapshot};

/// What a VM did in a part of the span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Length of the part, seconds.
    pub seconds: f64,
    /// What there was in it.
    pub parts: Vec<Part>,
}

/// How much there was of something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// An exit reason; where the host reports no exits, an event: `ioport`, `mmio` …
    pub name: String,
    /// Exits, or events.
    pub samples: u64,
}

/// What was counted of a VM in each step.
pub(super) type Counts<'a> = Vec<Vec<&'a snapshot::Count>>;

/// The steps of each VM, by process id.
pub(super) fn by_vm(steps: &[snapshot::Step]) -> BTreeMap<u32, Counts<'_>> {
    let mut vms: BTreeMap<u32, Counts<'_>> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        for count in &step.counts {
            let counts = vms.entry(count.pid).or_insert_with(|| vec![Vec::new(); steps.len()]);
            counts[at].push(count);
        }
    }
    vms
}

/// The steps of one VM in words.
pub(super) fn series(steps: &[snapshot::Step], counts: &Counts<'_>, frame: Frame<'_>) -> Vec<Step> {
    let part =
        |count: &&snapshot::Count| Part { name: name(count.key, frame), samples: count.count };
    steps
        .iter()
        .zip(counts)
        .map(|(step, counts)| Step {
            seconds: step.span_ns as f64 / 1e9,
            parts: counts.iter().map(part).collect(),
        })
        .collect()
}

fn name(key: Key, frame: Frame<'_>) -> String {
    match key.table().map(event) {
        Some(event) if code_of(key).is_none() && event != Event::Vmexit => event.to_string(),
        _ => reason_name(code_of(key), frame),
    }
}
