//! Findings of a VM before and after: gone, new, and remaining ones.

use serde::Serialize;

use crate::finding::Finding;

/// A finding of either recording, or of both.
#[derive(Clone, Debug, Serialize)]
pub struct FindingDiff {
    /// ID of the rule.
    pub rule: &'static str,
    /// Title of the rule.
    pub title: &'static str,
    /// Size before; null if there was no such finding.
    pub before: Option<Share>,
    /// Size after; null if there is no such finding.
    pub after: Option<Share>,
}

/// Size of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Share of the VM's exits, or events, percent.
    pub exits_percent: f64,
    /// Share of the VM's handled time, percent; null if times are unknown.
    pub time_percent: Option<f64>,
    /// Upper limit of the saving, percent of a core; null if times are unknown.
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

/// Findings of both recordings, gone ones first, then new ones.
pub(super) fn findings(before: &[Finding], after: &[Finding]) -> Vec<FindingDiff> {
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
