//! Comparison of two recordings: a [`Diff`] has each VM's rows before and after, and what they
//! saved or cost. Differences within what chance alone can cause are marked as noise.

mod change;
mod found;
mod note;
mod pair;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use self::{change::Measured, pair::Pair};
pub use self::{
    change::{Change, Verdict},
    found::{FindingDiff, Share},
    pair::MatchedBy,
    table::RowDiff,
};
use crate::{
    event::Event,
    finding,
    host::Host,
    measurement::Measurement,
    report::{self, ExitReporting, Report, Scope, Span},
    timing::Timing,
};

/// Version of the JSON schema. It grows by one when a field is removed or changes its meaning.
pub const SCHEMA: u32 = 1;

/// The difference of two recordings.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of vmexit that made the comparison.
    pub version: &'static str,
    /// The first recording.
    pub before: Side,
    /// The second recording.
    pub after: Side,
    /// Differences of the hosts and of the measurements, and what is not compared because of them:
    /// sentences.
    pub notes: Vec<String>,
    /// CPUs kept busy by exits of the VMs in both recordings; null unless known for both.
    pub cores: Option<Change>,
    /// VMs, largest change first.
    pub vms: Vec<VmDiff>,
}

/// Circumstances of one recording.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Version of vmexit that measured.
    pub version: String,
    /// The host.
    pub host: Host,
    /// Start and length.
    pub span: Span,
    /// Whether KVM reported exits.
    pub source: ExitReporting,
    /// Exits that were timed.
    pub timing: Timing,
    /// Whether any times are known.
    #[serde(skip)]
    times: bool,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmDiff {
    /// Name of the VM, the later one if it changed: unescaped.
    pub name: String,
    /// The VM before; null if it was not in the recording.
    pub before: Option<VmSide>,
    /// The VM after; null if it was not in the recording.
    pub after: Option<VmSide>,
    /// Property by which the two were matched; null if the VM is in one recording only.
    pub matched: Option<MatchedBy>,
    /// Exits per second.
    pub exits: Change,
    /// CPUs kept busy by its exits; null unless known for both.
    pub cores: Option<Change>,
    /// Findings; empty if the VM is in one recording only.
    pub findings: Vec<FindingDiff>,
    /// Tables in both recordings, by event; `vmexit` is the table by exit reason. Rows with the
    /// largest saving or cost come first, those within the noise last. Empty if the VM is in one
    /// recording only.
    pub tables: BTreeMap<Event, Vec<RowDiff>>,
    /// Rows left out of a table, by event; missing if none were.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hidden: BTreeMap<Event, usize>,
}

/// A VM in one of the recordings.
#[derive(Clone, Debug, Serialize)]
pub struct VmSide {
    /// Name in that recording: unescaped.
    pub name: String,
    /// Process ID of the VMM.
    pub pid: u32,
    /// vCPU threads observed.
    pub vcpus: usize,
}

impl Diff {
    /// Compares two recordings. Each table has at most `top` rows.
    pub fn between(before: &Measurement, after: &Measurement, top: Option<usize>) -> Self {
        // Whole tables: a row left out of one could be the one that changed.
        let whole = |measurement: &Measurement| finding::report(measurement, Scope::default());
        let (old, new) = (whole(before), whole(after));
        let (notes, comparable) = note::differences(&old, &new);
        let sides = (Side::of(&old), Side::of(&new));
        let mut vms: Vec<VmDiff> = pair::pairs(before, &old, after, &new)
            .into_iter()
            .map(|pair| vm(pair, &sides, &comparable, top))
            .collect();
        vms.sort_by(|one, other| other.weight().total_cmp(&one.weight()));
        let both = || vms.iter().filter(|vm| vm.matched.is_some());
        let cores = both().map(|vm| vm.cores.as_ref()).collect::<Option<Vec<_>>>();
        let cores = cores.filter(|cores| !cores.is_empty());
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            notes,
            cores: cores.map(|cores| Change::sum(cores.into_iter())),
            vms,
            before: sides.0,
            after: sides.1,
        }
    }
}

impl Side {
    fn of(report: &Report) -> Self {
        Self {
            version: report.version.clone(),
            host: report.host.clone(),
            span: report.span.clone(),
            source: report.source,
            timing: report.timing,
            times: report.has_times(),
        }
    }
}

impl VmSide {
    fn of(vm: &report::VmReport) -> Self {
        Self { name: vm.name.clone(), pid: vm.pid, vcpus: vm.vcpus.len() }
    }
}

impl VmDiff {
    /// Size of the change: that of its time if known, else that of its exits, which weigh less.
    fn weight(&self) -> f64 {
        let cores = self.cores.as_ref().map(|cores| cores.difference.abs());
        cores.unwrap_or(self.exits.difference.abs() / 1e9)
    }
}

fn vm(
    pair: Pair<'_>,
    (before, after): &(Side, Side),
    comparable: &[Event],
    top: Option<usize>,
) -> VmDiff {
    let Pair { before: old, after: new, matched } = pair;
    let (old_side, new_side) = (old.map(|vm| (vm, before)), new.map(|vm| (vm, after)));
    let exits = |side: Option<(&report::VmReport, &Side)>| {
        side.map_or(Measured::default(), |(vm, side)| Measured::rate(vm.total.samples, side))
    };
    let cores = |side: Option<(&report::VmReport, &Side)>| match side {
        Some((vm, side)) => Measured::cores_of(&vm.tables.exits, side),
        None => Some(Measured::default()),
    };
    let (mut findings, mut tables, mut hidden) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    if let (Some(old), Some(new)) = (old, new) {
        findings = found::findings(&old.assessment.findings, &new.assessment.findings);
        for &event in comparable {
            let mut rows = table::rows(event, (&old.tables, before), (&new.tables, after));
            if let Some(more) =
                rows.len().checked_sub(top.unwrap_or(usize::MAX)).filter(|&more| more > 0)
            {
                hidden.insert(event, more);
                rows.truncate(rows.len() - more);
            }
            if !rows.is_empty() {
                tables.insert(event, rows);
            }
        }
    }
    VmDiff {
        name: new.or(old).map_or_else(String::new, |vm| vm.name.clone()),
        exits: Change::between(exits(old_side), exits(new_side)),
        cores: cores(old_side).zip(cores(new_side)).map(|(old, new)| Change::between(old, new)),
        before: old.map(VmSide::of),
        after: new.map(VmSide::of),
        matched,
        findings,
        tables,
        hidden,
    }
}
