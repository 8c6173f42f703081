//! The table on the screen: its rows in their order, the one that is selected, and which are in sight.

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
    /// The table on the screen.
    pub(in super::super) fn table(&self) -> TableId {
        match self.path.last() {
            None => TableId::Vms,
            Some(Screen::Row { .. }) => TableId::RowVcpus,
            Some(Screen::Vm(_) | Screen::Vcpu(_)) => TableId::Tab(self.tab),
        }
    }

    pub(super) fn set(&self) -> Set {
        match self.table() {
            TableId::Vms => Set::Vms,
            TableId::Tab(Tab::Vcpus) => Set::Vcpus,
            TableId::Tab(_) | TableId::RowVcpus => Set::Rows,
        }
    }

    /// The titles of what a row of the table is of.
    pub(in super::super) fn titles(&self) -> &'static [&'static str] {
        match self.table() {
            TableId::Vms => &["VM"],
            TableId::Tab(Tab::Reasons) => table::titles(Event::Vmexit),
            TableId::Tab(Tab::Details(event)) => table::titles(event),
            TableId::Tab(Tab::Vcpus) => &["vCPU"],
            TableId::RowVcpus => &["vCPU", "Thread"],
        }
    }

    /// The columns that fit into so many, and how wide each is.
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

    /// Those that the table on the screen has.
    pub(in super::super) fn shown_columns(&self) -> Vec<(&'static Column, u16)> {
        self.columns(areas(self, self.area()).table.width.saturating_sub(MARKER))
    }

    /// What the table is ordered by.
    pub(in super::super) fn sorting(&self) -> Sorting {
        let set = self.set();
        let sorting = self.sorts.get(&set).copied().unwrap_or(Sorting::by(Figure::Rate));
        let mut columns = set.columns().iter();
        let known = columns
            .any(|column| column.figure == sorting.figure && column.is_known(self.figures()));
        if known { sorting } else { Sorting::by(Figure::Rate) }
    }

    /// The rows of the table, in their order.
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

    /// The vCPUs that have the row that is open.
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

    /// The row that is open, with its figures; `None` where the report has nothing of it.
    pub(in super::super) fn open_row(&self) -> Option<&Stats> {
        let Some(Screen::Row { tab, item, .. }) = self.path.last() else { return None };
        stats_of(self.tables()?, *tab, *item)
    }

    /// The figures of the selected row, where it is one of exits.
    pub(in super::super) fn selected_stats(&self) -> Option<&Stats> {
        let TableId::Tab(tab) = self.table() else { return None };
        stats_of(self.tables()?, tab, self.cursors.get(&self.table())?.item?)
    }

    /// Which row is selected, and the first in sight.
    pub(in super::super) fn cursor(&self) -> (usize, usize) {
        self.cursors.get(&self.table()).map_or((0, 0), |cursor| (cursor.index, cursor.offset))
    }

    pub(in super::super) fn is_marked(&self, item: Item) -> bool {
        self.marks.contains(&(self.table(), item))
    }

    /// The sum over all marked rows of the table, in words; `None` if none is marked.
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

    /// Whether a tab has rows.
    pub(in super::super) fn has_rows(&self, tab: Tab) -> bool {
        match (tab, self.tables()) {
            (Tab::Vcpus, _) => self.vm().is_some_and(|vm| !vm.vcpus.is_empty()),
            (Tab::Reasons, Some(tables)) => !tables.exits.is_empty(),
            (Tab::Details(event), Some(tables)) => tables.details.contains_key(&event),
            (_, None) => false,
        }
    }

    /// The tabs of what is open.
    pub(in super::super) fn tabs(&self) -> impl Iterator<Item = (Tab, &'static str)> {
        let of_vcpu = self.is_vcpu_open();
        Tab::ALL.into_iter().filter(move |(tab, _)| !of_vcpu || *tab != Tab::Vcpus)
    }

    /// Rows in sight.
    pub(super) fn page(&self) -> usize {
        usize::from(areas(self, self.area()).table.height.saturating_sub(1)).max(1)
    }

    /// Selects a row by its place.
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

    /// Puts everything right after a change: the cursor stays on its row, wherever that went.
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

/// A vCPU's number, or that nobody knows it.
fn number(vcpu: &VcpuReport) -> String {
    vcpu.id.map_or_else(|| "?".into(), |id| id.to_string())
}

fn rows_of(tables: &Tables, tab: Tab) -> Vec<TableRow<'_>> {
    match tab {
        Tab::Reasons => tables.exits.iter().map(of_exit).collect(),
        Tab::Details(event) => {
            // What was only ever a step of other exits has no figures.
            let rows = tables.details.get(&event).into_iter().flatten();
            rows.filter(|row| row.stats.samples > 0).map(of_detail).collect()
        }
        Tab::Vcpus => Vec::new(),
    }
}

fn of_exit(exit: &Exit) -> TableRow<'_> {
    let figures = RowFigures::Stats(&exit.stats, exit.waits);
    TableRow::new(Item::Reason(exit.code), exit.reason.clone(), String::new(), figures)
}

fn of_detail(row: &Detail) -> TableRow<'_> {
    let (label, name) = (label(&row.subject), device_or_name(&row.subject));
    TableRow::new(Item::of(&row.subject), label, name, RowFigures::Stats(&row.stats, false))
}

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
