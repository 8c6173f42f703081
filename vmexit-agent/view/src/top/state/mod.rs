//! What a live view shows: which screen, which rows, in which order. Reports and actions come in;
//! what is to be drawn, and what is to be done, can be asked. No terminal, no clock.

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

/// Columns around what lies over everything.
const AROUND: usize = 4;

/// Intervals for which a message stays.
const MESSAGE_STAYS: u8 = 5;

/// Something that was opened over the list of VMs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Screen {
    /// A VM's tables.
    Vm(u32),
    /// Those of one of its vCPUs, by thread id.
    Vcpu(u32),
    /// One of their rows: from which table, and what it is called.
    Row { tab: Tab, item: Item, label: String, name: String },
}

/// What lies over everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    Help,
    Findings,
}

/// A live view.
pub struct State {
    frame: FrameData,
    /// What was opened over the list of VMs: a VM, one of its vCPUs perhaps, a row perhaps.
    path: Vec<Screen>,
    tab: Tab,
    /// The tab is one that has rows as soon as it is known which do.
    picks_tab: bool,
    cursors: BTreeMap<TableId, Cursor>,
    sorts: BTreeMap<Set, Sorting>,
    filters: BTreeMap<TableId, String>,
    /// While a filter is typed: what it was before.
    typing: Option<String>,
    overlay: Option<Overlay>,
    /// Lines of it that are above its window.
    overlay_offset: usize,
    marks: BTreeSet<(TableId, Item)>,
    paused: bool,
    cumulative: bool,
    absolute: bool,
    /// This host's KVM reports events but no exits.
    silent: bool,
    interval: Duration,
    by: By,
    columns: BTreeMap<Set, Vec<&'static Column>>,
    replay: bool,
    trends: Trends,
    /// What was lost last, and when, as shown.
    loss: Option<(String, String)>,
    message: Option<(String, u8)>,
    size: (u16, u16),
}

impl State {
    /// A view of a first frame, on a terminal of so many columns and lines.
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
        // Nothing is selected until there is something to choose from.
        state
    }

    /// Shows a new interval.
    pub fn update(&mut self, frame: FrameData) {
        self.show(frame);
        let time = self.time();
        let show = FigureContext { seconds: self.frame.interval.span.seconds, ..self.figures() };
        self.trends.note(&self.frame.interval, show, self.open(), &time);
        self.note_losses(time);
        self.message.take_if(|(_, stays)| {
            *stays = stays.saturating_sub(1);
            *stays == 0
        });
        self.settle();
    }

    /// Shows the same as before in the layout that is wanted now.
    pub fn refresh(&mut self, frame: FrameData) {
        self.show(frame);
        self.settle();
    }

    fn show(&mut self, frame: FrameData) {
        self.frame = frame;
        match self.frame.interval.source {
            ExitReporting::Exits => self.silent = false,
            ExitReporting::Silent => self.silent = true,
            ExitReporting::Nothing => {}
        }
    }

    /// Says something for a while.
    pub fn say(&mut self, message: String) {
        self.message = Some((message, MESSAGE_STAYS));
    }

    /// Follows the terminal's size.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
        self.settle();
    }

    /// The scope of the reports to show.
    pub fn scope(&self) -> Scope {
        // Findings are made from tables, and are of interest before a VM is opened.
        let vms = self.selected().map_or(Selection::None, Selection::Vm);
        Scope { vms, vcpus: self.path.len() > 1 }
    }

    /// The VM whose screen is open, by process id: its durations are wanted.
    pub fn open(&self) -> Option<u32> {
        match self.path.first() {
            Some(Screen::Vm(pid)) => Some(*pid),
            _ => None,
        }
    }

    /// The VM that is open or selected, by process id: it is to stay, even if it ends.
    pub fn selected(&self) -> Option<u32> {
        self.open().or_else(|| match self.cursors.get(&TableId::Vms)?.item? {
            Item::Vm(pid) => Some(pid),
            _ => None,
        })
    }

    /// Whether a report since the baseline is to be made too.
    pub fn is_cumulative(&self) -> bool {
        self.cumulative
    }

    /// Whether what is shown is to stay.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether it is not of now.
    pub(super) fn is_replay(&self) -> bool {
        self.replay
    }

    /// From one reading to the next.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.0, self.size.1)
    }

    /// The report whose figures are shown.
    pub(super) fn report(&self) -> &Report {
        let cumulative = self.frame.cumulative.as_ref().filter(|_| self.cumulative);
        cumulative.unwrap_or(&self.frame.interval)
    }

    pub(super) fn vm(&self) -> Option<&VmReport> {
        let open = self.open()?;
        self.report().vms.iter().find(|vm| vm.pid == open)
    }

    pub(super) fn has_ended(&self, pid: u32) -> bool {
        self.frame.ended.contains(&pid)
    }

    /// The vCPU that is open.
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

    /// The tables of what is open; `None` where nothing is, or where it is not in the report.
    pub(super) fn tables(&self) -> Option<&Tables> {
        if self.is_vcpu_open() { self.vcpu()?.tables.as_ref() } else { Some(&self.vm()?.tables) }
    }

    /// What is open, outermost first.
    pub(super) fn path(&self) -> &[Screen] {
        &self.path
    }

    pub(super) fn tab(&self) -> Tab {
        self.tab
    }

    pub(super) fn overlay(&self) -> Option<(Overlay, usize)> {
        self.overlay.map(|overlay| (overlay, self.overlay_offset))
    }

    /// The VM that is open or selected, if there is something to say of it.
    pub(super) fn found(&self) -> Option<&VmReport> {
        let pid = self.selected()?;
        let vm = self.report().vms.iter().find(|vm| vm.pid == pid);
        vm.filter(|vm| !vm.assessment.findings.is_empty())
    }

    /// What is to be said of it, in lines that fit on the screen with something around them.
    pub(super) fn findings(&self) -> Vec<String> {
        let Some(vm) = self.found() else { return Vec::new() };
        let width = usize::from(self.size.0).saturating_sub(AROUND).max(AROUND);
        explain::lines(vm, self.report(), width)
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_ref().map(|(message, _)| message.as_str())
    }

    /// The filter of the table, and whether it is being typed.
    pub(super) fn filter(&self) -> (&str, bool) {
        let filter = self.filters.get(&self.table()).map_or("", String::as_str);
        (filter, self.typing.is_some())
    }

    /// The rates of the open row in past intervals, oldest first.
    pub(super) fn open_trend(&self) -> &[f64] {
        self.trend_of_open().map_or(&[], |trend| &trend.rates)
    }

    /// Since when there has been something of the open row.
    pub(super) fn since(&self) -> Option<String> {
        Some(match &self.trend_of_open()?.since {
            Some(time) => format!("first seen {time} UTC"),
            None => format!("seen since before {} UTC", self.trends.begun(self.open()?)?),
        })
    }

    fn trend_of_open(&self) -> Option<&Trend> {
        let Some(Screen::Row { item, .. }) = self.path.last() else { return None };
        self.trends.row(self.open()?, *item)
    }

    pub(super) fn figures(&self) -> FigureContext {
        let report = self.report();
        let times = !self.silent && report.timing != Timing::Off;
        FigureContext {
            absolute: self.absolute,
            exits: !self.silent,
            times,
            userspace: times && report.events.contains(&Event::Userspace),
            seconds: report.span.seconds,
        }
    }

    /// The time of the last frame, UTC: of the day, but with its date if it is not of now.
    pub(super) fn time(&self) -> String {
        let time = humantime::format_rfc3339_seconds(self.frame.time).to_string();
        let from = if self.replay { 0 } else { 11 };
        time.get(from..19).unwrap_or(&time).replace('T', " ")
    }
}
