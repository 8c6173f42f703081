//! What a VM's exits mean: [`rules()`] are the patterns that are known, each with its cause and its remedies.
//! A VM's tables, what its QEMU offers it and how it was measured come in; out come the [`Finding`]s that
//! are worth a change, and what is busy but [`Healthy`].

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
// What rules are written in, and what they lead to.
pub use crate::report::{
    Advice, Assessment, Confidence, Evidence, EvidenceRow, Figures, Finding, GuestOs, Healthy, Os,
};
use crate::{
    measurement::Measurement,
    report::{Report, Scope},
};

/// The report of a measurement with its findings.
pub fn report(measurement: &Measurement, scope: Scope) -> Report {
    let mut report = Report::of(measurement, scope);
    assess(&mut report, &measurement.vms, scope);
    report
}

/// A pattern that is known.
#[derive(Debug)]
pub struct Rule {
    /// What it goes by, in kebab case.
    pub id: &'static str,
    /// What is the case, in a few words.
    pub title: &'static str,
    /// What is looked for, in words.
    pub sign: &'static str,
    /// What is looked for. Rows by exit reason, if any match, are those that count; else rows of details.
    pub patterns: &'static [Pattern],
    /// From when on it is a finding.
    pub least: Least,
    /// Why it is nothing to worry about as long as it is no finding; `None` if that is not worth a word.
    pub fine: Option<&'static str>,
    /// Why guests do it, and why it costs.
    pub cause: &'static str,
    /// What to change.
    pub remedies: &'static [Remedy],
    /// How certain it is that cause and remedies are right where the pattern is.
    pub confidence: Confidence,
    /// Documents, sources and commits that say so.
    pub sources: &'static [&'static str],
}

/// From when on a pattern is a finding; beyond what holds for all, see [`FEWEST_SAMPLES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Least {
    /// It costs [`LEAST_CORE_PERCENT`]; where no time is known, it comes [`LEAST_PER_SECOND`] times.
    Cost,
    /// It costs so much of a core, percent. Nothing is said where no time is known.
    Core(f64),
    /// It costs as much as [`Self::Cost`] says, and comes so many times per second and vCPU: fewer are what
    /// every guest has.
    PerVcpu(f64),
    /// It is healthy.
    Never,
}
