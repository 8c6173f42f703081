//! What changed from one recording to another: two go in, a [`Diff`] comes out, with each VM's rows
//! beside each other and what they saved or cost. What chance alone could have done is called noise.

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

/// Version of the shape; it grows when a field goes away or changes its meaning.
pub const SCHEMA: u32 = 1;

/// The difference of two recordings.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of vmexit that compared.
    pub version: &'static str,
    /// The first recording.
    pub before: Side,
    /// The second.
    pub after: Side,
    /// What the two don't have in common, and what can't be compared therefore: sentences.
    pub notes: Vec<String>,
    /// CPUs that were busy with exits of the VMs that are in both; null where that is not known of both.
    pub cores: Option<Change>,
    /// The VMs, those that changed most first.
    pub vms: Vec<VmDiff>,
}

/// What a recording is of.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Version of vmexit that measured it.
    pub version: String,
    /// Where.
    pub host: Host,
    /// When.
    pub span: Span,
    /// Whether KVM reported exits.
    pub source: ExitReporting,
    /// Which exits were timed.
    pub timing: Timing,
    /// Whether times are known at all.
    #[serde(skip)]
    times: bool,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmDiff {
    /// Its name, that after if it was another: unescaped.
    pub name: String,
    /// Who it was; null where it was not there.
    pub before: Option<Who>,
    /// Who it is.
    pub after: Option<Who>,
    /// What the two have in common; null where there is only one.
    pub matched: Option<MatchedBy>,
    /// Exits per second.
    pub exits: Change,
    /// CPUs busy with its exits; null where that is not known of both.
    pub cores: Option<Change>,
    /// What was or is worth a change. None where the VM is in one recording only.
    pub findings: Vec<FindingDiff>,
    /// MatchedBy event, `vmexit` for exits by reason: those tables that both have. Rows that saved or cost most
    /// come first, and those within the noise last. None where the VM is in one recording only.
    pub tables: BTreeMap<Event, Vec<RowDiff>>,
    /// How many rows were left out of a table, where it was to have no more than so many.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hidden: BTreeMap<Event, usize>,
}

/// A VM in one of the recordings.
#[derive(Clone, Debug, Serialize)]
pub struct Who {
    /// Its name then: unescaped.
    pub name: String,
    /// Process id of the VMM.
    pub pid: u32,
    /// vCPU threads that were seen.
    pub vcpus: usize,
}

impl Diff {
    /// Compares two recordings, with at most `top` rows of each table.
    pub fn between(before: &Measurement, after: &Measurement, top: Option<usize>) -> Self {
        // All of it: what is left out of a table can be what changed.
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
            times: report.source == ExitReporting::Exits && report.timing != Timing::Off,
        }
    }
}

impl Who {
    fn of(vm: &report::VmReport) -> Self {
        Self { name: vm.name.clone(), pid: vm.pid, vcpus: vm.vcpus.len() }
    }
}

impl VmDiff {
    /// How much it changed: by its time, where that is known, else by its exits, which matter less.
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
        findings = found::found(&old.assessment.findings, &new.assessment.findings);
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
        before: old.map(Who::of),
        after: new.map(Who::of),
        matched,
        findings,
        tables,
        hidden,
    }
}
