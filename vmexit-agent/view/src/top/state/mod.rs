//! State of the live view: the open screens, the selected rows, sort keys, filters and marks. Reports and actions change
//! it; the drawing code reads it.

mod action;
mod apply;
mod banners;
mod frame;
mod rows;
mod table;
mod tabs;
mod trends;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ratatui::layout::Rect;
use vmexit_core::{
    event::Event,
    report::{ExitReporting, Report, Scope, Selection, Tables, VcpuReport, VmReport},
    timing::Timing,
};

pub use self::{
    action::{Action, Effect},
    frame::{FrameData, Settings},
    rows::{FigureContext, Item},
};
pub(super) use self::{
    rows::{TableRow, rate},
    tabs::{Tab, TableId},
};
use self::{
    tabs::{Cursor, Sorting},
    trends::{Trend, Trends},
};
use super::columns::{Column, Set};
use crate::{explain, options::By};

/// Columns of an overlay's border and padding.
const OVERLAY_MARGIN: usize = 4;

/// Number of intervals for which a message is displayed.
const MESSAGE_INTERVALS: u8 = 5;

/// A screen opened from the list of VMs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Screen {
    /// The tables of a VM, by process ID.
    Vm(u32),
    /// The tables of a vCPU, by thread ID.
    Vcpu(u32),
    /// A row of a table.
    Row {
        /// Table of the row.
        tab: Tab,
        /// Identity of the row.
        item: Item,
        /// Label of the row, unescaped.
        label: String,
        /// Device or name of the row, unescaped; empty if unknown.
        name: String,
    },
}

/// A window over the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    /// The keys.
    Help,
    /// The findings of the open or selected VM.
    Findings,
}

/// State of the live view.
pub struct State {
    frame: FrameData,
    /// Open screens: none for the list of VMs, or a VM, then possibly a vCPU, then possibly a row.
    path: Vec<Screen>,
    tab: Tab,
    /// Whether the first report with tables selects a tab that has rows.
    picks_tab: bool,
    cursors: BTreeMap<TableId, Cursor>,
    sorts: BTreeMap<Set, Sorting>,
    filters: BTreeMap<TableId, String>,
    /// The previous filter, while a new one is typed.
    typing: Option<String>,
    overlay: Option<Overlay>,
    /// Number of the overlay's lines above its window.
    overlay_offset: usize,
    marks: BTreeSet<(TableId, Item)>,
    paused: bool,
    cumulative: bool,
    absolute: bool,
    /// Whether this host's KVM reports events but no exits.
    silent: bool,
    interval: Duration,
    by: By,
    columns: BTreeMap<Set, Vec<&'static Column>>,
    replay: bool,
    trends: Trends,
    /// Displayed time and text of the last losses.
    loss: Option<(String, String)>,
    /// Message and the number of intervals for which it remains.
    message: Option<(String, u8)>,
    /// Columns and lines of the terminal.
    size: (u16, u16),
}

impl State {
    /// The state with a first frame, on a terminal of `size` columns and lines. No row is selected before the first
    /// [`State::update`].
    pub fn new(settings: Settings, frame: FrameData, size: (u16, u16)) -> Self {
        let mut state = Self {
            path: Vec::new(),
            tab: Tab::first(settings.by),
            picks_tab: false,
            cursors: BTreeMap::new(),
            sorts: tabs::sorts(settings.sort),
            filters: BTreeMap::new(),
            typing: None,
            overlay: None,
            overlay_offset: 0,
            marks: BTreeSet::new(),
            paused: false,
            cumulative: false,
            absolute: false,
            silent: false,
            interval: settings.interval,
            by: settings.by,
            columns: settings.columns,
            replay: settings.replay,
            trends: Trends::default(),
            loss: None,
            message: None,
            size,
            frame,
        };
        if let Some(pid) = settings.open {
            state.open_vm(pid);
        }
        state
    }

    /// Displays the reports of a new interval.
    pub fn update(&mut self, frame: FrameData) {
        self.show(frame);
        let time = self.time();
        let show = FigureContext { seconds: self.frame.interval.span.seconds, ..self.figures() };
        self.trends.add(&self.frame.interval, show, self.open(), &time);
        self.note_losses(time);
        self.message.take_if(|(_, stays)| {
            *stays = stays.saturating_sub(1);
            *stays == 0
        });
        self.settle();
    }

    /// Displays new reports of the same interval, in the scope of [`State::scope`].
    pub fn refresh(&mut self, frame: FrameData) {
        self.show(frame);
        self.settle();
    }

    /// Takes new reports, and notes whether KVM reports exits.
    fn show(&mut self, frame: FrameData) {
        self.frame = frame;
        match self.frame.interval.source {
            ExitReporting::Exits => self.silent = false,
            ExitReporting::Silent => self.silent = true,
            ExitReporting::Nothing => {}
        }
    }

    /// Displays a message for some intervals.
    pub fn say(&mut self, message: String) {
        self.message = Some((message, MESSAGE_INTERVALS));
    }

    /// Adapts to a new size of the terminal.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
        self.settle();
    }

    /// Scope of the reports to build.
    pub fn scope(&self) -> Scope {
        // The selected VM needs tables before it is opened: its findings are displayed, and they are made from tables.
        let vms = self.selected().map_or(Selection::None, Selection::Vm);
        Scope { vms, vcpus: self.path.len() > 1 }
    }

    /// Process ID of the open VM, whose histograms are needed.
    pub fn open(&self) -> Option<u32> {
        match self.path.first() {
            Some(Screen::Vm(pid)) => Some(*pid),
            _ => None,
        }
    }

    /// Process ID of the open or selected VM, which remains in the reports after its end.
    pub fn selected(&self) -> Option<u32> {
        self.open().or_else(|| match self.cursors.get(&TableId::Vms)?.item? {
            Item::Vm(pid) => Some(pid),
            _ => None,
        })
    }

    /// Whether figures since the baseline are displayed, so that [`FrameData::cumulative`] is needed.
    pub fn is_cumulative(&self) -> bool {
        self.cumulative
    }

    /// Whether the display is frozen.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the reports are from a recording.
    pub(super) fn is_replay(&self) -> bool {
        self.replay
    }

    /// Time between readings.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Area of the terminal.
    pub(super) fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.0, self.size.1)
    }

    /// The displayed report.
    pub(super) fn report(&self) -> &Report {
        let cumulative = self.frame.cumulative.as_ref().filter(|_| self.cumulative);
        cumulative.unwrap_or(&self.frame.interval)
    }

    /// The open VM in the displayed report.
    pub(super) fn vm(&self) -> Option<&VmReport> {
        let open = self.open()?;
        self.report().vms.iter().find(|vm| vm.pid == open)
    }

    /// Whether a VM has ended.
    pub(super) fn has_ended(&self, pid: u32) -> bool {
        self.frame.ended.contains(&pid)
    }

    /// The open vCPU in the displayed report.
    pub(super) fn vcpu(&self) -> Option<&VcpuReport> {
        let tid = self.path.iter().find_map(|screen| match screen {
            Screen::Vcpu(tid) => Some(*tid),
            _ => None,
        })?;
        self.vm()?.vcpus.iter().find(|vcpu| vcpu.tid == tid)
    }

    fn is_vcpu_open(&self) -> bool {
        self.path.iter().any(|screen| matches!(screen, Screen::Vcpu(_)))
    }

    /// Tables of the open vCPU or VM; `None` if none is open, or the report does not have it.
    pub(super) fn tables(&self) -> Option<&Tables> {
        if self.is_vcpu_open() { self.vcpu()?.tables.as_ref() } else { Some(&self.vm()?.tables) }
    }

    /// Open screens, outermost first.
    pub(super) fn path(&self) -> &[Screen] {
        &self.path
    }

    /// The selected tab.
    pub(super) fn tab(&self) -> Tab {
        self.tab
    }

    /// The open overlay, and the number of its lines above its window.
    pub(super) fn overlay(&self) -> Option<(Overlay, usize)> {
        self.overlay.map(|overlay| (overlay, self.overlay_offset))
    }

    /// The open or selected VM, if it has findings.
    pub(super) fn vm_with_findings(&self) -> Option<&VmReport> {
        let pid = self.selected()?;
        let vm = self.report().vms.iter().find(|vm| vm.pid == pid);
        vm.filter(|vm| !vm.assessment.findings.is_empty())
    }

    /// Findings of the open or selected VM, wrapped to the width of an overlay.
    pub(super) fn findings(&self) -> Vec<String> {
        let Some(vm) = self.vm_with_findings() else { return Vec::new() };
        let width = usize::from(self.size.0).saturating_sub(OVERLAY_MARGIN).max(OVERLAY_MARGIN);
        explain::lines(vm, self.report(), width)
    }

    /// The displayed message.
    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_ref().map(|(message, _)| message.as_str())
    }

    /// Filter of the table, and whether it is being typed.
    pub(super) fn filter(&self) -> (&str, bool) {
        let filter = self.filters.get(&self.table()).map_or("", String::as_str);
        (filter, self.typing.is_some())
    }

    /// Rates of the open row in past intervals, oldest first.
    pub(super) fn open_trend(&self) -> &[f64] {
        self.trend_of_open().map_or(&[], |trend| &trend.rates)
    }

    /// First interval that had the open row, as text.
    pub(super) fn since(&self) -> Option<String> {
        Some(match &self.trend_of_open()?.since {
            Some(time) => format!("first seen {time} UTC"),
            None => format!("seen since before {} UTC", self.trends.started(self.open()?)?),
        })
    }

    fn trend_of_open(&self) -> Option<&Trend> {
        let Some(Screen::Row { item, .. }) = self.path.last() else { return None };
        self.trends.row(self.open()?, *item)
    }

    /// Display mode of the figures, and which of them are known.
    pub(super) fn figures(&self) -> FigureContext {
        let report = self.report();
        // Not `has_times`: an interval without any event must not hide the columns.
        let times = !self.silent && report.timing != Timing::Off;
        FigureContext {
            absolute: self.absolute,
            exits: !self.silent,
            times,
            userspace: times && report.events.contains(&Event::Userspace),
            seconds: report.span.seconds,
        }
    }

    /// Time of the last frame, UTC; with its date if it is from a recording.
    pub(super) fn time(&self) -> String {
        let time = humantime::format_rfc3339_seconds(self.frame.time).to_string();
        let from = if self.replay { 0 } else { 11 };
        time.get(from..19).unwrap_or(&time).replace('T', " ")
    }
}
