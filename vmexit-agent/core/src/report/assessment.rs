//! What a VM's exits mean: the form in which [`finding`](crate::finding) puts it into a report.

use serde::Serialize;

use super::Subject;

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

/// A family of guests that take different remedies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// Windows, and what else uses Hyper-V's interfaces.
    Windows,
    /// Linux, and what else uses KVM's.
    Linux,
    /// Nothing tells.
    #[default]
    Unknown,
}

/// What a guest is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestOs {
    /// Which.
    pub os: Os,
    /// How certain that is.
    pub confidence: Confidence,
    /// Why.
    pub because: &'static str,
}

impl Default for GuestOs {
    fn default() -> Self {
        Self { os: Os::Unknown, confidence: Confidence::Low, because: "nothing tells" }
    }
}

impl GuestOs {
    /// Which, where it is certain enough to leave out what is for others.
    pub(crate) fn certain(&self) -> Option<Os> {
        (self.os != Os::Unknown && self.confidence > Confidence::Low).then_some(self.os)
    }
}

/// A remedy for one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// For whom: `windows`, `linux`, or `unknown` for all.
    pub os: Os,
    /// What to do.
    pub action: &'static str,
    /// The guest has been offered all that could be: it does not use it.
    pub offered: bool,
    /// What is missing in libvirt's XML, in its place; null if nothing is, or if the VMM is not QEMU.
    pub libvirt: Option<String>,
    /// What is missing in QEMU's command line; null likewise.
    pub qemu: Option<String>,
    /// What to do or look at inside of the guest, or on the host; null if nothing.
    pub inside: Option<&'static str>,
}
