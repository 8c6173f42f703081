//! Rows of a table: their identity and their figures.

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

/// Identity of a row, the same in all reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A VM, by process ID.
    Vm(u32),
    /// An exit reason, by code; `None` for the `other` row.
    Reason(Option<u32>),
    /// A detail, by kind, number (`None` for the `other` row) and direction.
    Detail(Kind, Option<u64>, Option<Direction>),
    /// A vCPU, by thread ID.
    Vcpu(u32),
}

impl Item {
    pub(super) fn of(subject: &Subject) -> Self {
        Self::Detail(subject.kind, subject.number, subject.direction)
    }
}

/// Display mode of figures, and which of them are known.
#[derive(Clone, Copy, Debug)]
pub struct FigureContext {
    /// Whether absolute figures are displayed instead of shares.
    pub(in super::super) absolute: bool,
    /// Whether KVM reports exits; if not, events are displayed.
    pub(in super::super) exits: bool,
    /// Whether durations are known.
    pub(in super::super) times: bool,
    /// Whether the time in userspace is known.
    pub(in super::super) userspace: bool,
    /// Length of the displayed span, seconds.
    pub(in super::super) seconds: f64,
}

/// One row of a table.
pub(in super::super) struct TableRow<'a> {
    /// Identity of the row.
    pub(in super::super) item: Item,
    /// Text of the first column, unescaped: a VM's name, an exit reason, a port …
    pub(in super::super) label: String,
    /// Device or name, unescaped; empty if unknown.
    pub(in super::super) name: String,
    /// Whether the VM has ended.
    pub(in super::super) ended: bool,
    /// Source of the figures.
    pub(super) figures: RowFigures<'a>,
    /// Rates of past intervals, oldest first.
    pub(super) trend: &'a [f64],
}

/// Source of a row's figures.
#[derive(Clone, Copy)]
pub(super) enum RowFigures<'a> {
    /// Totals of a VM.
    Vm(&'a VmReport),
    /// Totals of a vCPU.
    Vcpu(&'a VcpuReport),
    /// Figures of an exit reason or detail. The flag is set for exits in which the vCPU waits.
    Stats(&'a Stats, bool),
    /// The displayed report does not have the row.
    Absent,
}

impl<'a> TableRow<'a> {
    pub(super) fn new(item: Item, label: String, name: String, figures: RowFigures<'a>) -> Self {
        Self { item, label, name, ended: false, figures, trend: &[] }
    }

    /// Value of a column.
    pub(in super::super) fn value(&self, figure: Figure, show: FigureContext) -> CellValue<'a> {
        match (figure, self.figures) {
            (Figure::Label, _) => CellValue::Text(self.label.clone()),
            (Figure::Name, _) => CellValue::Text(self.name.clone()),
            (Figure::Trend, _) => CellValue::Trend(self.trend),
            (_, RowFigures::Vm(vm)) => vm_value(vm, figure, show),
            (_, RowFigures::Vcpu(vcpu)) => vcpu_value(vcpu, figure, show),
            (_, RowFigures::Stats(stats, waits)) => stats_value(stats, waits, figure, show),
            (_, RowFigures::Absent) => CellValue::Nothing,
        }
    }

    /// Whether the label or name contains a lower-case text, ignoring case, or the text is the VM's process ID.
    pub(super) fn matches(&self, lower_case: &str) -> bool {
        let has = |name: &str| name.to_lowercase().contains(lower_case);
        let process = matches!(self.item, Item::Vm(pid) if pid.to_string() == lower_case);
        process || has(&self.label) || has(&self.name)
    }
}

fn vm_value(vm: &VmReport, figure: Figure, show: FigureContext) -> CellValue<'static> {
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
        _ => total_value(&vm.total, vm.vcpus.len(), figure, show),
    }
}

fn vcpu_value(vcpu: &VcpuReport, figure: Figure, show: FigureContext) -> CellValue<'static> {
    match figure {
        Figure::Process => CellValue::Id(vcpu.tid),
        _ => total_value(&vcpu.total, 1, figure, show),
    }
}

fn total_value(
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

fn stats_value(
    stats: &Stats,
    waits: bool,
    figure: Figure,
    show: FigureContext,
) -> CellValue<'static> {
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

/// Exits per second; events per second if KVM reports no exits.
pub(in super::super) fn rate(total: &Total, show: FigureContext) -> f64 {
    match show.exits {
        true => total.per_second,
        false if show.seconds > 0.0 => total.unmatched as f64 / show.seconds,
        false => 0.0,
    }
}

/// A part of a time: absolute, or its share.
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
