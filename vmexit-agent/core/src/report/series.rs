//! What VMs did over time.

use std::collections::BTreeMap;

use serde::Serialize;
use vmexit_common::key::Key;

use super::frame::{Frame, code_of, reason_name};
use crate::{counters, event::Event, kind};

/// What a VM did in a part of the span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesStep {
    /// How long was watched, seconds: all of the part, but for what follows.
    pub seconds: f64,
    /// Time in it that nobody watched, seconds; missing if there was none.
    #[serde(skip_serializing_if = "is_zero")]
    pub unwatched_seconds: f64,
    /// What there was in it.
    pub parts: Vec<SeriesPart>,
}

/// How much there was of something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesPart {
    /// An exit reason; where the host reports no exits, an event: `ioport`, `mmio` …
    pub name: String,
    /// Exits, or events.
    pub samples: u64,
}

/// What was counted of a VM in each step.
pub(super) type StepCounts<'a> = Vec<Vec<&'a counters::Count>>;

/// The steps of each VM, by process id.
pub(super) fn by_vm(steps: &[counters::Step]) -> BTreeMap<u32, StepCounts<'_>> {
    let mut vms: BTreeMap<u32, StepCounts<'_>> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        for count in &step.counts {
            let counts = vms.entry(count.pid).or_insert_with(|| vec![Vec::new(); steps.len()]);
            counts[at].push(count);
        }
    }
    vms
}

/// The steps of one VM in words.
pub(super) fn series(
    steps: &[counters::Step],
    counts: &StepCounts<'_>,
    frame: Frame<'_>,
) -> Vec<SeriesStep> {
    let part = |count: &&counters::Count| SeriesPart {
        name: name(count.key, frame),
        samples: count.count,
    };
    steps
        .iter()
        .zip(counts)
        .map(|(step, counts)| SeriesStep {
            seconds: step.span_ns as f64 / 1e9,
            unwatched_seconds: step.unwatched_ns as f64 / 1e9,
            parts: counts.iter().map(part).collect(),
        })
        .collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

impl SeriesStep {
    /// From its beginning to its end, seconds.
    pub fn length(&self) -> f64 {
        self.seconds + self.unwatched_seconds
    }
}

/// Standard error of a VM's rate over steps that were not watched all of their time, percent of the rate: each
/// is a sample of its time. `None` where all was watched, or where there are fewer than three.
pub(super) fn rate_error(steps: &[counters::Step], counts: &StepCounts<'_>) -> Option<f64> {
    let watched: u64 = steps.iter().map(|step| step.span_ns).sum();
    let unwatched: u64 = steps.iter().map(|step| step.unwatched_ns).sum();
    let rates: Vec<f64> = steps
        .iter()
        .zip(counts)
        .filter(|(step, _)| step.span_ns > 0)
        .map(|(step, counts)| {
            counts.iter().map(|count| count.count).sum::<u64>() as f64 / step.span_ns as f64
        })
        .collect();
    if unwatched == 0 || rates.len() < 3 {
        return None;
    }
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // The more of the whole is known, the less is left to be wrong about.
    let unknown = unwatched as f64 / (watched + unwatched) as f64;
    (mean > 0.0).then(|| 100.0 * (variance * unknown / n).sqrt() / mean)
}

fn name(key: Key, frame: Frame<'_>) -> String {
    match key.table().map(kind::event) {
        Some(event) if code_of(key).is_none() && event != Event::Vmexit => event.to_string(),
        _ => reason_name(code_of(key), frame),
    }
}
