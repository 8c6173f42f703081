//! Form of the assessment of a VM, made by [`finding`](crate::finding), within a report.

use serde::Serialize;

use super::Subject;

/// Assessment of a VM.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Assessment {
    /// Inferred guest operating system.
    pub guest_os: GuestOs,
    /// Findings, highest cost first.
    pub findings: Vec<Finding>,
    /// Patterns that are busy but normal, most exits first.
    pub healthy: Vec<Healthy>,
}

/// A pattern that is worth a change.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// ID of the [`Rule`](crate::finding::Rule).
    pub rule: &'static str,
    /// Title of the rule.
    pub title: &'static str,
    /// Sum of all matching rows.
    #[serde(flatten)]
    pub figures: Figures,
    /// Upper limit of the saving, percent of a core: the time in which these exits were handled.
    /// What replaces them takes some of it. Null if times are unknown.
    pub gain_core_percent: Option<f64>,
    /// Matching rows, highest cost first.
    pub evidence: Vec<Evidence>,
    /// Emulated devices on QEMU's command line, if the rule is about an unknown device; else empty.
    pub devices: Vec<String>,
    /// Reason why guests do it, and why it costs.
    pub cause: &'static str,
    /// Changes for this guest.
    pub remedies: Vec<Advice>,
    /// Confidence in cause and remedies.
    pub confidence: Confidence,
    /// Documents, sources and commits that support the rule.
    pub sources: &'static [&'static str],
}

/// A pattern that is busy but normal.
#[derive(Clone, Debug, Serialize)]
pub struct Healthy {
    /// ID of the [`Rule`](crate::finding::Rule).
    pub rule: &'static str,
    /// Title of the rule.
    pub title: &'static str,
    /// Sum of all matching rows.
    #[serde(flatten)]
    pub figures: Figures,
    /// Reason why it is normal.
    pub fine: &'static str,
}

/// A table row that matches a rule.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// Exit reason or detail of the row.
    #[serde(flatten)]
    pub row: EvidenceRow,
    /// Figures of the row.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Identity of a row.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum EvidenceRow {
    /// A row by exit reason.
    Exit {
        /// Linux's name of the exit reason.
        reason: String,
    },
    /// A row of details.
    Detail(Subject),
}

/// Count, rate and shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Exits; events if KVM reports no exits.
    pub samples: u64,
    /// Rate per second.
    pub per_second: f64,
    /// Share of the VM's exits, or events, percent.
    pub exits_percent: f64,
    /// Share of the VM's handled time, percent; null for waiting, and if times are unknown.
    pub time_percent: Option<f64>,
}

/// Confidence in a conclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A hint that needs checking.
    Low,
    /// Likely.
    Medium,
    /// Almost certain.
    High,
}

/// Guest operating systems that need different remedies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// Windows, and others that use Hyper-V's interfaces.
    Windows,
    /// Linux, and others that use KVM's interfaces.
    Linux,
    /// Not determined.
    #[default]
    Unknown,
}

/// Inferred guest operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestOs {
    /// The operating system.
    pub os: Os,
    /// Confidence in it.
    pub confidence: Confidence,
    /// Reason for it.
    pub because: &'static str,
}

impl Default for GuestOs {
    fn default() -> Self {
        Self { os: Os::Unknown, confidence: Confidence::Low, because: "no indication" }
    }
}

impl GuestOs {
    /// The operating system, if certain enough to omit remedies for others.
    pub(crate) fn certain(&self) -> Option<Os> {
        (self.os != Os::Unknown && self.confidence > Confidence::Low).then_some(self.os)
    }
}

/// A remedy for one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Guests that it applies to: `windows`, `linux`, or `unknown` for all.
    pub os: Os,
    /// Action, one sentence.
    pub action: &'static str,
    /// Whether the VM already has all of the settings: the guest does not use them.
    pub offered: bool,
    /// Missing settings in libvirt's XML, with parent elements; null if none are missing, or if the
    /// VMM is not QEMU.
    pub libvirt: Option<String>,
    /// Missing settings on QEMU's command line; null likewise.
    pub qemu: Option<String>,
    /// Steps in the guest or on the host; null if none.
    pub inside: Option<&'static str>,
}
