//! The rows of a table: which thing each is of, whatever happens to its figures, and what they are.

use vmexit_common::key::Kind;
use vmexit_core::{
    kind::Direction,
    report::{Stats, Subject, Total, VcpuReport, VmReport},
};

use super::super::value::CellValue;
use crate::{
    figure::Figure,
    subject::{device_or_name, label},
};

/// What a row is of. It stays the same from report to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A VM, by process id.
    Vm(u32),
    /// An exit reason by its code; `None` for the rest.
    Reason(Option<u32>),
    /// What exits were for, by kind of subject, number (`None` for the rest) and direction.
    Detail(Kind, Option<u64>, Option<Direction>),
    /// A vCPU, by thread id.
    Vcpu(u32),
}

impl Item {
    pub(super) fn of(subject: &Subject) -> Self {
        Self::Detail(subject.kind, subject.number, subject.direction)
    }
}

/// How figures are to be, and which there are.
#[derive(Clone, Copy, Debug)]
pub struct FigureContext {
    /// Themselves instead of shares.
    pub(in super::super) absolute: bool,
    /// Whether this host's KVM reports exits; events are shown where it does not.
    pub(in super::super) exits: bool,
    pub(in super::super) times: bool,
    pub(in super::super) userspace: bool,
    /// The length of what is shown.
    pub(in super::super) seconds: f64,
}

/// One row of a table.
pub(in super::super) struct TableRow<'a> {
    pub(in super::super) item: Item,
    /// Which thing it is, unescaped.
    pub(in super::super) label: String,
    /// What that is called, unescaped; may be empty.
    pub(in super::super) name: String,
    /// The VM has ended.
    pub(in super::super) ended: bool,
    pub(super) figures: RowFigures<'a>,
    pub(super) trend: &'a [f64],
}

/// Where a row's figures come from.
#[derive(Clone, Copy)]
pub(super) enum RowFigures<'a> {
    Vm(&'a VmReport),
    Vcpu(&'a VcpuReport),
    /// Of exits that wait where the flag says so.
    Stats(&'a Stats, bool),
    /// There are none in what is shown.
    Absent,
}

impl<'a> TableRow<'a> {
    pub(super) fn new(item: Item, label: String, name: String, figures: RowFigures<'a>) -> Self {
        Self { item, label, name, ended: false, figures, trend: &[] }
    }

    /// One of its figures.
    pub(in super::super) fn value(&self, figure: Figure, show: FigureContext) -> CellValue<'a> {
        match (figure, self.figures) {
            (Figure::Label, _) => CellValue::Text(self.label.clone()),
            (Figure::Name, _) => CellValue::Text(self.name.clone()),
            (Figure::Trend, _) => CellValue::Trend(self.trend),
            (_, RowFigures::Vm(vm)) => of_vm(vm, figure, show),
            (_, RowFigures::Vcpu(vcpu)) => of_vcpu(vcpu, figure, show),
            (_, RowFigures::Stats(stats, waits)) => of_stats(stats, waits, figure, show),
            (_, RowFigures::Absent) => CellValue::Nothing,
        }
    }

    /// Whether any of its names has this text in it, whichever the case.
    pub(super) fn matches(&self, lower_case: &str) -> bool {
        let has = |name: &str| name.to_lowercase().contains(lower_case);
        let process = matches!(self.item, Item::Vm(pid) if pid.to_string() == lower_case);
        process || has(&self.label) || has(&self.name)
    }
}

fn of_vm(vm: &VmReport, figure: Figure, show: FigureContext) -> CellValue<'static> {
    match figure {
        Figure::Process => CellValue::Id(vm.pid),
        Figure::Vcpus => CellValue::Count(vm.vcpus.len() as u64),
        Figure::Reason => vm.leading.reason.as_ref().map_or(CellValue::Nothing, |leading| {
            CellValue::Share(leading.share_percent, leading.reason.clone())
        }),
        Figure::Detail => vm.leading.detail.as_ref().map_or(CellValue::Nothing, |leading| {
            let (label, name) = (label(&leading.subject), device_or_name(&leading.subject));
            let both = if name == label { label } else { format!("{name} {label}") };
            CellValue::Share(leading.share_percent, both.trim_start().to_owned())
        }),
        _ => of_total(&vm.total, vm.vcpus.len(), figure, show),
    }
}

fn of_vcpu(vcpu: &VcpuReport, figure: Figure, show: FigureContext) -> CellValue<'static> {
    match figure {
        Figure::Process => CellValue::Id(vcpu.tid),
        _ => of_total(&vcpu.total, 1, figure, show),
    }
}

fn of_total(
    total: &Total,
    vcpus: usize,
    figure: Figure,
    show: FigureContext,
) -> CellValue<'static> {
    let span_ns = show.seconds * 1e9;
    match figure {
        Figure::Rate => CellValue::PerSecond(rate(total, show)),
        Figure::Samples => {
            CellValue::Count(if show.exits { total.samples } else { total.unmatched })
        }
        Figure::Time if show.absolute => CellValue::Time(total.handled_ns),
        Figure::Time => CellValue::Percent(total.core_percent),
        Figure::User => part(total.userspace_ns, total.handled_ns, show),
        Figure::Waiting if show.absolute => CellValue::Time(total.waiting_ns),
        Figure::Waiting => share(total.waiting_ns as f64, span_ns * vcpus as f64),
        _ => CellValue::Nothing,
    }
}

fn of_stats(stats: &Stats, waits: bool, figure: Figure, show: FigureContext) -> CellValue<'static> {
    let time = |ns: Option<u64>| ns.map_or(CellValue::Nothing, CellValue::Time);
    match figure {
        Figure::Rate => CellValue::PerSecond(stats.per_second),
        Figure::Samples if show.absolute => CellValue::Count(stats.samples),
        Figure::Samples => CellValue::Percent(stats.samples_percent),
        Figure::Time if show.absolute => time((!waits).then_some(stats.total_ns)),
        Figure::Time => stats.time_percent.map_or(CellValue::Nothing, CellValue::Percent),
        Figure::User => part(stats.userspace_ns.filter(|_| !waits), stats.total_ns, show),
        Figure::Waiting => time(waits.then_some(stats.total_ns)),
        Figure::Min => time(stats.min_ns),
        Figure::P50 => time(stats.p50_ns),
        Figure::Avg => time(stats.avg_ns),
        Figure::Error => stats.avg_error_percent.map_or(CellValue::Nothing, CellValue::Percent),
        Figure::P99 => time(stats.p99_ns),
        Figure::Max => time(stats.max_ns),
        _ => CellValue::Nothing,
    }
}

/// Exits per second; of all events where there are no exits.
pub(in super::super) fn rate(total: &Total, show: FigureContext) -> f64 {
    match show.exits {
        true => total.per_second,
        false if show.seconds > 0.0 => total.unmatched as f64 / show.seconds,
        false => 0.0,
    }
}

/// A part of some time, or its share.
fn part(ns: Option<u64>, whole_ns: u64, show: FigureContext) -> CellValue<'static> {
    match ns {
        Some(ns) if show.absolute => CellValue::Time(ns),
        Some(ns) => share(ns as f64, whole_ns as f64),
        None => CellValue::Nothing,
    }
}

fn share(part: f64, whole: f64) -> CellValue<'static> {
    if whole > 0.0 { CellValue::Percent(100.0 * part / whole) } else { CellValue::Nothing }
}
