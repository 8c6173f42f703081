//! What a VM's exits mean: [`rules()`] are the patterns that are known, each with its cause and its remedies.
//! A VM's tables, what its QEMU offers it and how it was measured come in; out come the [`Finding`]s that
//! are worth a change, and what is busy but [`Healthy`].

mod assess;
mod guest_os;
mod pattern;
mod remedy;
mod rules;

use serde::Serialize;

pub(crate) use self::assess::{Scene, assess};
pub use self::{
    assess::{FEWEST_SAMPLES, LEAST_CORE_PERCENT, LEAST_PER_SECOND},
    guest_os::{GuestOs, Os},
    pattern::Pattern,
    remedy::{Advice, Remedy, Setting},
    rules::rules,
};
use crate::model::Subject;

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

/// How certain something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A hint: see whether it fits.
    Low,
    /// Likely.
    Medium,
    /// Next to certain.
    High,
}

/// What was concluded of a VM.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Assessment {
    /// What the guest is.
    pub guest_os: GuestOs,
    /// What is worth a change, what costs most first.
    pub findings: Vec<Finding>,
    /// What is busy and fine, most exits first.
    pub healthy: Vec<Healthy>,
}

/// A pattern that is worth a change.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The [`Rule`]'s id.
    pub rule: &'static str,
    /// What is the case.
    pub title: &'static str,
    /// All rows together.
    #[serde(flatten)]
    pub figures: Figures,
    /// What goes away at most, percent of a core: the time in which these exits were handled; what comes in
    /// their place will take some of it. Null where no time is known.
    pub gain_core_percent: Option<f64>,
    /// The rows that support it, what costs most first.
    pub evidence: Vec<Evidence>,
    /// Devices with registers in QEMU that its command line names, where the rule is about such.
    pub devices: Vec<String>,
    /// Why guests do it, and why it costs.
    pub cause: &'static str,
    /// What to change, for this guest.
    pub remedies: Vec<Advice>,
    /// How certain cause and remedies are.
    pub confidence: Confidence,
    /// Documents, sources and commits that say so.
    pub sources: &'static [&'static str],
}

/// A pattern that is busy and fine.
#[derive(Clone, Debug, Serialize)]
pub struct Healthy {
    /// The [`Rule`]'s id.
    pub rule: &'static str,
    /// What is the case.
    pub title: &'static str,
    /// All rows together.
    #[serde(flatten)]
    pub figures: Figures,
    /// Why it is nothing to worry about.
    pub fine: &'static str,
}

/// A row of the VM's tables, as evidence.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// Which.
    #[serde(flatten)]
    pub row: EvidenceRow,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Which row it is.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum EvidenceRow {
    /// By exit reason.
    Exit {
        /// Name as Linux prints it.
        reason: String,
    },
    /// By what exits are for.
    Detail(Subject),
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Exits; events where the host does not report exits.
    pub samples: u64,
    /// Per second.
    pub per_second: f64,
    /// Share of the VM's exits, or events, percent.
    pub exits_percent: f64,
    /// Share of the VM's handled time, percent; null where no time is known, or it is waiting.
    pub time_percent: Option<f64>,
}
