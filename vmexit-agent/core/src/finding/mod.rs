//! Assessment of exits: [`rules()`] are the known patterns, each with its cause and its remedies.
//! From a VM's tables, QEMU's settings and the way of measuring follow the [`Finding`]s, which are
//! worth a change, and what is busy but [`Healthy`].

mod assess;
mod guest_os;
mod pattern;
mod remedy;
mod rules;

pub use self::{
    assess::{FEWEST_SAMPLES, LEAST_CORE_PERCENT, LEAST_PER_SECOND, assess},
    pattern::Pattern,
    remedy::{Remedy, Setting},
    rules::rules,
};
// Types of the rules' fields and of their results.
pub use crate::report::{
    Advice, Assessment, Confidence, Evidence, EvidenceRow, Figures, Finding, GuestOs, Healthy, Os,
};
use crate::{
    measurement::Measurement,
    report::{Report, Scope},
};

/// The report of a measurement, with findings.
pub fn report(measurement: &Measurement, scope: Scope) -> Report {
    let mut report = Report::of(measurement, scope);
    assess(&mut report, &measurement.vms, scope);
    report
}

/// A known pattern.
#[derive(Debug)]
pub struct Rule {
    /// Identifier in kebab case.
    pub id: &'static str,
    /// Summary in a few words.
    pub title: &'static str,
    /// Description of the patterns.
    pub sign: &'static str,
    /// Patterns to match. If any row by exit reason matches, those rows are summed; else rows of
    /// details.
    pub patterns: &'static [Pattern],
    /// Threshold of a finding.
    pub threshold: Threshold,
    /// Reason why the pattern is normal below the threshold; `None` if it is then not worth
    /// listing.
    pub fine: Option<&'static str>,
    /// Reason why guests do it, and why it costs.
    pub cause: &'static str,
    /// Changes to make.
    pub remedies: &'static [Remedy],
    /// Confidence that cause and remedies apply where the pattern matches.
    pub confidence: Confidence,
    /// Documents, sources and commits that support the rule.
    pub sources: &'static [&'static str],
}

/// Threshold of a finding, in addition to [`FEWEST_SAMPLES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// A cost of [`LEAST_CORE_PERCENT`]; if times are unknown, a rate of [`LEAST_PER_SECOND`].
    Cost,
    /// A cost of this percentage of a core. No finding if times are unknown.
    Core(f64),
    /// [`Self::Cost`], and this rate per vCPU: every guest has a lower one.
    PerVcpu(f64),
    /// No finding: the pattern is informational.
    Never,
}
