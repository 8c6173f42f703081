//! Findings of a VM beside each other: what went away, what came, what is still there.

use serde::Serialize;

use crate::finding::Finding;

/// A finding of either recording, or of both.
#[derive(Clone, Debug, Serialize)]
pub struct FindingDiff {
    /// The rule's id.
    pub rule: &'static str,
    /// What is the case.
    pub title: &'static str,
    /// How much it was; null if it was no finding.
    pub before: Option<Share>,
    /// How much it is.
    pub after: Option<Share>,
}

/// How much a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Share of the VM's exits, or events, percent.
    pub exits_percent: f64,
    /// Share of the VM's handled time, percent; null where no time is known.
    pub time_percent: Option<f64>,
    /// What goes away with it at most, percent of a core; null where no time is known.
    pub gain_core_percent: Option<f64>,
}

impl Share {
    fn of(finding: &Finding) -> Self {
        Self {
            exits_percent: finding.figures.exits_percent,
            time_percent: finding.figures.time_percent,
            gain_core_percent: finding.gain_core_percent,
        }
    }
}

/// Those that went away first, then those that came.
pub(super) fn found(before: &[Finding], after: &[Finding]) -> Vec<FindingDiff> {
    let mut all: Vec<FindingDiff> = before
        .iter()
        .map(|old| FindingDiff {
            rule: old.rule,
            title: old.title,
            before: Some(Share::of(old)),
            after: after.iter().find(|new| new.rule == old.rule).map(Share::of),
        })
        .collect();
    let is_new = |new: &&Finding| before.iter().all(|old| old.rule != new.rule);
    all.extend(after.iter().filter(is_new).map(|new| FindingDiff {
        rule: new.rule,
        title: new.title,
        before: None,
        after: Some(Share::of(new)),
    }));
    all.sort_by_key(|found| (found.after.is_some(), found.before.is_some()));
    all
}
