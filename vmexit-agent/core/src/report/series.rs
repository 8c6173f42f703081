//! Figures of VMs over time.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use vmexit_common::key::Key;

use super::frame::{Frame, code_of, reason_name};
use crate::{counters, event::Event, kind};

/// Counts of a VM in a part of the span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesStep {
    /// Time observed, seconds: the length without `unwatched_seconds`.
    pub seconds: f64,
    /// Time not observed, seconds; missing if none.
    #[serde(skip_serializing_if = "is_zero")]
    pub unwatched_seconds: f64,
    /// Counts by exit reason or event.
    pub parts: Vec<SeriesPart>,
}

/// Count of one exit reason or event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesPart {
    /// Exit reason; if KVM reports no exits, an event: `ioport`, `mmio` …
    pub name: String,
    /// Exits, or events.
    pub samples: u64,
}

/// Maximum number of steps in the series of all VMs together: 240 steps of a thousand VMs.
const MOST_CELLS: usize = 1 << 18;

/// Counts of one VM with the index of their step, in the order of steps. Steps without a count take
/// no memory.
pub(super) type StepCounts<'a> = Vec<(usize, &'a counters::Count)>;

/// Counts of each VM, by process ID.
pub(super) fn by_vm(steps: &[counters::Step]) -> BTreeMap<u32, StepCounts<'_>> {
    let mut vms: BTreeMap<u32, StepCounts<'_>> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        for count in &step.counts {
            vms.entry(count.pid).or_default().push((at, count));
        }
    }
    vms
}

/// Returns the steps for series of this many VMs: steps are merged until all series fit in bounded
/// memory.
pub(super) fn bounded(steps: &[counters::Step], vms: usize) -> Cow<'_, [counters::Step]> {
    let most = (MOST_CELLS / vms.max(1)).max(1);
    if steps.len() <= most {
        return Cow::Borrowed(steps);
    }
    let merged = |part: &[counters::Step]| {
        let mut sum = counters::Step::default();
        part.iter().for_each(|step| sum.extend(step.clone()));
        sum
    };
    steps.chunks(steps.len().div_ceil(most)).map(merged).collect::<Vec<_>>().into()
}

/// Counts of a VM in one step after the other.
fn each_step<'a, 'b>(
    steps: &'b [counters::Step],
    counts: &'b [(usize, &'a counters::Count)],
) -> impl Iterator<Item = (&'b counters::Step, &'b [(usize, &'a counters::Count)])> {
    let mut rest = counts;
    steps.iter().enumerate().map(move |(at, step)| {
        let (these, later) = rest.split_at(rest.partition_point(|&(of, _)| of <= at));
        rest = later;
        (step, these)
    })
}

/// Steps of one VM, with names.
pub(super) fn series(
    steps: &[counters::Step],
    counts: &StepCounts<'_>,
    frame: Frame<'_>,
) -> Vec<SeriesStep> {
    let part = |&(_, count): &(usize, &counters::Count)| SeriesPart {
        name: name(count.key, frame),
        samples: count.count,
    };
    each_step(steps, counts)
        .map(|(step, counts)| SeriesStep {
            seconds: step.span_ns as f64 / 1e9,
            unwatched_seconds: step.unwatched_ns as f64 / 1e9,
            parts: counts.iter().map(part).collect(),
        })
        .collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde")]
fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

impl SeriesStep {
    /// Length from start to end, seconds.
    pub fn length(&self) -> f64 {
        self.seconds + self.unwatched_seconds
    }
}

/// Standard error of a VM's rate over steps that were not observed all of their time, percent of
/// the rate; each step is a sample of its time. `None` if all of the time was observed, or with
/// fewer than three steps.
pub(super) fn rate_error(steps: &[counters::Step], counts: &StepCounts<'_>) -> Option<f64> {
    let watched: u64 = steps.iter().map(|step| step.span_ns).sum();
    let unwatched: u64 = steps.iter().map(|step| step.unwatched_ns).sum();
    let rates: Vec<f64> = each_step(steps, counts)
        .filter(|(step, _)| step.span_ns > 0)
        .map(|(step, counts)| {
            counts.iter().map(|(_, count)| count.count).sum::<u64>() as f64 / step.span_ns as f64
        })
        .collect();
    if unwatched == 0 || rates.len() < 3 {
        return None;
    }
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // Finite population correction: only the part not observed is uncertain.
    let unknown = unwatched as f64 / (watched + unwatched) as f64;
    (mean > 0.0).then(|| 100.0 * (variance * unknown / n).sqrt() / mean)
}

fn name(key: Key, frame: Frame<'_>) -> String {
    match key.table().map(kind::event) {
        Some(event) if code_of(key).is_none() && event != Event::Vmexit => event.to_string(),
        _ => reason_name(code_of(key), frame),
    }
}
