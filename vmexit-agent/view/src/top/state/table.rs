//! The displayed table: its columns, its sorted rows, the selected row and the scroll position.

use vmexit_core::{
    event::Event,
    report::{Detail, Exit, Stats, Tables, VcpuReport},
    units,
};

use super::{
    FigureContext, Item, Screen, State, TableRow,
    rows::RowFigures,
    tabs::{Cursor, Sorting, Tab, TableId},
};
use crate::{
    figure::Figure,
    subject::{device_or_name, label},
    table,
    top::{
        areas::{MARKER, areas},
        columns::{Column, Set, fit},
        value::CellValue,
    },
};

impl State {
    /// The displayed table.
    pub(in super::super) fn table(&self) -> TableId {
        match self.path.last() {
            None => TableId::Vms,
            Some(Screen::Row { .. }) => TableId::RowVcpus,
            Some(Screen::Vm(_) | Screen::Vcpu(_)) => TableId::Tab(self.tab),
        }
    }

    /// Set of columns of the displayed table.
    pub(super) fn set(&self) -> Set {
        match self.table() {
            TableId::Vms => Set::Vms,
            TableId::Tab(Tab::Vcpus) => Set::Vcpus,
            TableId::Tab(_) | TableId::RowVcpus => Set::Rows,
        }
    }

    /// Titles of the columns that identify a row.
    pub(in super::super) fn titles(&self) -> &'static [&'static str] {
        match self.table() {
            TableId::Vms => &["VM"],
            TableId::Tab(Tab::Reasons) => table::titles(Event::Vmexit),
            TableId::Tab(Tab::Details(event)) => table::titles(event),
            TableId::Tab(Tab::Vcpus) => &["vCPU"],
            TableId::RowVcpus => &["vCPU", "Thread"],
        }
    }

    /// The columns that fit into a width of `room`, each with its width.
    pub(in super::super) fn columns(&self, room: u16) -> Vec<(&'static Column, u16)> {
        let set = self.set();
        let (show, named) = (self.figures(), self.titles().len() > 1);
        let waits = matches!(self.table(), TableId::Tab(Tab::Reasons));
        let is_shown = |column: &&Column| {
            column.is_known(show)
                && match (set, column.figure) {
                    (Set::Rows, Figure::Name) => named,
                    (Set::Rows, Figure::Waiting) => waits,
                    _ => true,
                }
        };
        let columns: Vec<&'static Column> = match self.columns.get(&set) {
            Some(chosen) => chosen.iter().copied().filter(is_shown).collect(),
            None => set.columns().iter().filter(is_shown).collect(),
        };
        fit(columns, room)
    }

    /// The columns of the displayed table, each with its width.
    pub(in super::super) fn shown_columns(&self) -> Vec<(&'static Column, u16)> {
        self.columns(areas(self, self.area()).table.width.saturating_sub(MARKER))
    }

    /// Sort key of the table: the chosen one, or the rate if the chosen figure is not known.
    pub(in super::super) fn sorting(&self) -> Sorting {
        let set = self.set();
        let sorting = self.sorts.get(&set).copied().unwrap_or(Sorting::by(Figure::Rate));
        let mut columns = set.columns().iter();
        let known = columns
            .any(|column| column.figure == sorting.figure && column.is_known(self.figures()));
        if known { sorting } else { Sorting::by(Figure::Rate) }
    }

    /// Sorted rows of the table that match its filter. The selected row is one of them even if the report does not have
    /// it.
    pub(in super::super) fn rows(&self) -> Vec<TableRow<'_>> {
        let mut rows = self.all_rows();
        if let Some(cursor) = self.cursors.get(&self.table())
            && let Some(item) = cursor.item.filter(|item| !matches!(item, Item::Vm(_)))
            && !rows.iter().any(|row| row.item == item)
        {
            let (label, name) = (cursor.label.clone(), cursor.name.clone());
            rows.push(TableRow::new(item, label, name, RowFigures::Absent));
        }
        let filter = self.filter().0.to_lowercase();
        rows.retain(|row| row.matches(&filter));
        let (sorting, show) = (self.sorting(), self.figures());
        let mut rows: Vec<(CellValue<'_>, TableRow<'_>)> =
            rows.into_iter().map(|row| (row.value(sorting.figure, show), row)).collect();
        rows.sort_by(|(value, row), (other, other_row)| {
            value.compare(other, sorting.descending).then(row.item.cmp(&other_row.item))
        });
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Unsorted rows of the table in the displayed report.
    fn all_rows(&self) -> Vec<TableRow<'_>> {
        match self.table() {
            TableId::Vms => self.vm_rows(),
            TableId::Tab(Tab::Vcpus) => {
                let (pid, vcpus) = self.vm().map_or((0, &[][..]), |vm| (vm.pid, &vm.vcpus));
                let row = |vcpu| self.vcpu_row(pid, vcpu);
                vcpus.iter().map(row).collect()
            }
            TableId::Tab(tab) => self.tables().map_or_else(Vec::new, |tables| rows_of(tables, tab)),
            TableId::RowVcpus => self.vcpu_rows(),
        }
    }

    fn vm_rows(&self) -> Vec<TableRow<'_>> {
        let rows = self.report().vms.iter().map(|vm| {
            let (label, figures) = (vm.name.clone(), RowFigures::Vm(vm));
            let ended = self.has_ended(vm.pid);
            let trend = self.trends.vm(vm.pid);
            TableRow {
                ended,
                trend,
                ..TableRow::new(Item::Vm(vm.pid), label, String::new(), figures)
            }
        });
        rows.collect()
    }

    fn vcpu_row<'a>(&'a self, pid: u32, vcpu: &'a VcpuReport) -> TableRow<'a> {
        let item = Item::Vcpu(vcpu.tid);
        let trend = self.trends.row(pid, item).map_or(&[][..], |trend| &trend.rates);
        TableRow {
            trend,
            ..TableRow::new(item, number(vcpu), String::new(), RowFigures::Vcpu(vcpu))
        }
    }

    /// Rows for the vCPUs that have the open row; for the open vCPU only, if one is open.
    fn vcpu_rows(&self) -> Vec<TableRow<'_>> {
        let (Some(Screen::Row { tab, item, .. }), Some(vm)) = (self.path.last(), self.vm()) else {
            return Vec::new();
        };
        let only = self.vcpu().map(|vcpu| vcpu.tid);
        let vcpus = vm.vcpus.iter().filter(|vcpu| only.is_none_or(|tid| tid == vcpu.tid));
        vcpus
            .filter_map(|vcpu| {
                let rows = rows_of(vcpu.tables.as_ref()?, *tab);
                let figures = rows.into_iter().find(|row| row.item == *item)?.figures;
                let thread = vcpu.tid.to_string();
                Some(TableRow::new(Item::Vcpu(vcpu.tid), number(vcpu), thread, figures))
            })
            .collect()
    }

    /// Figures of the open row; `None` if the report does not have it.
    pub(in super::super) fn open_row(&self) -> Option<&Stats> {
        let Some(Screen::Row { tab, item, .. }) = self.path.last() else { return None };
        stats_of(self.tables()?, *tab, *item)
    }

    /// Figures of the selected row, if it is an exit reason or detail.
    pub(in super::super) fn selected_stats(&self) -> Option<&Stats> {
        let TableId::Tab(tab) = self.table() else { return None };
        stats_of(self.tables()?, tab, self.cursors.get(&self.table())?.item?)
    }

    /// Indices of the selected row and of the first row on the screen.
    pub(in super::super) fn cursor(&self) -> (usize, usize) {
        self.cursors.get(&self.table()).map_or((0, 0), |cursor| (cursor.index, cursor.offset))
    }

    /// Whether a row of the table is marked.
    pub(in super::super) fn is_marked(&self, item: Item) -> bool {
        self.marks.contains(&(self.table(), item))
    }

    /// Sums over the marked rows of the table, as text; `None` if none is marked.
    pub(in super::super) fn marked(&self) -> Option<String> {
        let rows: Vec<TableRow<'_>> =
            self.all_rows().into_iter().filter(|row| self.is_marked(row.item)).collect();
        if rows.is_empty() {
            return None;
        }
        let show = FigureContext { absolute: false, ..self.figures() };
        let sum = |figure| -> f64 {
            rows.iter().filter_map(|row| row.value(figure, show).number()).sum()
        };
        let mut text = format!("{} marked: {}/s", rows.len(), units::rate(sum(Figure::Rate)));
        if show.times {
            let whole = if self.set() == Set::Rows { "of the time" } else { "of a core" };
            text += &format!(", {:.1}% {whole}", sum(Figure::Time));
        }
        Some(text)
    }

    /// Whether a tab of the open VM or vCPU has rows.
    pub(in super::super) fn has_rows(&self, tab: Tab) -> bool {
        match (tab, self.tables()) {
            (Tab::Vcpus, _) => self.vm().is_some_and(|vm| !vm.vcpus.is_empty()),
            (Tab::Reasons, Some(tables)) => !tables.exits.is_empty(),
            (Tab::Details(event), Some(tables)) => tables.details.contains_key(&event),
            (_, None) => false,
        }
    }

    /// Tabs of the open VM or vCPU, with their titles.
    pub(in super::super) fn tabs(&self) -> impl Iterator<Item = (Tab, &'static str)> {
        let of_vcpu = self.is_vcpu_open();
        Tab::ALL.into_iter().filter(move |(tab, _)| !of_vcpu || *tab != Tab::Vcpus)
    }

    /// Number of rows that fit on the screen, at least 1.
    pub(super) fn page(&self) -> usize {
        usize::from(areas(self, self.area()).table.height.saturating_sub(1)).max(1)
    }

    /// Selects a row by its index, and scrolls to it.
    pub(in super::super) fn select(&mut self, index: usize) {
        let rows = self.rows();
        let index = index.min(rows.len().saturating_sub(1));
        let chosen = rows.get(index).map(|row| (row.item, row.label.clone(), row.name.clone()));
        let (rows, page) = (rows.len(), self.page());
        let cursor = self.cursors.entry(self.table()).or_default();
        cursor.index = index;
        if let Some((item, label, name)) = chosen {
            *cursor = Cursor { item: Some(item), label, name, ..*cursor };
        }
        let furthest = rows.saturating_sub(page);
        cursor.offset = cursor.offset.clamp((index + 1).saturating_sub(page), index).min(furthest);
    }

    /// Restores consistency after a change: closes a VM that the report no longer has, and keeps the selection on its row
    /// if that has moved.
    pub(super) fn settle(&mut self) {
        if self.open().is_some() && self.vm().is_none() {
            self.path.clear();
        }
        if self.picks_tab && self.tables().is_some_and(|tables| !tables.is_empty()) {
            self.picks_tab = false;
            if !self.has_rows(self.tab)
                && let Some((tab, _)) = Tab::ALL.into_iter().find(|(tab, _)| self.has_rows(*tab))
            {
                self.tab = tab;
            }
        }
        let cursor = self.cursors.get(&self.table());
        let (item, index) = cursor.map_or((None, 0), |cursor| (cursor.item, cursor.index));
        let place = self.rows().iter().position(|row| Some(row.item) == item);
        self.select(place.unwrap_or(index));
    }
}

/// Number of a vCPU; `?` if unknown.
fn number(vcpu: &VcpuReport) -> String {
    vcpu.id.map_or_else(|| "?".into(), |id| id.to_string())
}

/// Unsorted rows of a tab.
fn rows_of(tables: &Tables, tab: Tab) -> Vec<TableRow<'_>> {
    match tab {
        Tab::Reasons => tables.exits.iter().map(exit_row).collect(),
        Tab::Details(event) => {
            // A row whose accesses were all parts of other exits has no figures.
            let rows = tables.details.get(&event).into_iter().flatten();
            rows.filter(|row| row.stats.samples > 0).map(detail_row).collect()
        }
        Tab::Vcpus => Vec::new(),
    }
}

fn exit_row(exit: &Exit) -> TableRow<'_> {
    let figures = RowFigures::Stats(&exit.stats, exit.waits);
    TableRow::new(Item::Reason(exit.code), exit.reason.clone(), String::new(), figures)
}

fn detail_row(row: &Detail) -> TableRow<'_> {
    let (label, name) = (label(&row.subject), device_or_name(&row.subject));
    TableRow::new(Item::of(&row.subject), label, name, RowFigures::Stats(&row.stats, false))
}

/// Figures of an exit reason or detail.
fn stats_of(tables: &Tables, tab: Tab, item: Item) -> Option<&Stats> {
    match tab {
        Tab::Reasons => {
            let mut exits = tables.exits.iter();
            exits.find(|exit| Item::Reason(exit.code) == item).map(|exit| &exit.stats)
        }
        Tab::Details(event) => {
            let mut rows = tables.details.get(&event)?.iter();
            rows.find(|row| Item::of(&row.subject) == item).map(|row| &row.stats)
        }
        Tab::Vcpus => None,
    }
}
