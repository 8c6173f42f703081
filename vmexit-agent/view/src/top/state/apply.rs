//! Application of actions to the state.

use std::time::Duration;

use vmexit_core::escape::safe;

use super::{
    Action, Effect, Item, Overlay, Screen, State,
    tabs::{Sorting, Tab, TableId},
};
use crate::{figure::Figure, top::keys::BINDINGS};

/// Intervals between readings to choose from.
const INTERVALS: [Duration; 9] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

impl State {
    /// Steps through a recording, which no longer advances by itself.
    fn step(&mut self, forward: bool) -> Effect {
        self.paused = true;
        Effect::Step { forward }
    }

    /// Applies an action; returns the work that remains for the caller.
    pub fn apply(&mut self, action: Action) -> Effect {
        if let Some(effect) = self.apply_to_overlay(action) {
            return effect;
        }
        self.message = None;
        let (index, _) = self.cursor();
        let page = self.page();
        match action {
            Action::Up => self.select(index.saturating_sub(1)),
            Action::Down => self.select(index + 1),
            Action::PageUp => self.select(index.saturating_sub(page)),
            Action::PageDown => self.select(index + page),
            Action::First => self.select(0),
            Action::Last => self.select(usize::MAX),
            Action::Open => return self.open_selected(),
            Action::Back => return self.back(),
            Action::NextTab => self.step_tab(true),
            Action::PreviousTab => self.step_tab(false),
            Action::Tab(number) => {
                let tab = self.tabs().nth(number.wrapping_sub(1)).map(|(tab, _)| tab);
                self.go_to(tab);
            }
            Action::Filter => self.typing = Some(self.filter().0.to_owned()),
            Action::Sort => self.sort_by_next(),
            Action::Reverse => {
                let sorting = self.sorting();
                self.sort(Sorting { descending: !sorting.descending, ..sorting });
            }
            Action::Pause => {
                self.paused = !self.paused;
                return Effect::Show;
            }
            Action::Mark => {
                self.mark();
                self.select(index + 1);
            }
            Action::Reset => {
                self.loss = None;
                self.paused = false;
                self.say("baseline reset; c shows the figures since then".into());
                return Effect::Reset;
            }
            Action::Forward => return self.step(true),
            Action::Backward => return self.step(false),
            Action::Slower => {
                return self.set_interval(INTERVALS.iter().find(|&&i| i > self.interval));
            }
            Action::Faster => {
                return self.set_interval(INTERVALS.iter().rfind(|&&i| i < self.interval));
            }
            Action::Cumulative => {
                self.cumulative = !self.cumulative;
                return Effect::Show;
            }
            Action::Absolute => self.absolute = !self.absolute,
            Action::Findings => self.open_overlay(Overlay::Findings),
            Action::Help => self.open_overlay(Overlay::Help),
            Action::Save => return Effect::Save,
            Action::Redraw => return Effect::Redraw,
            Action::Suspend => return Effect::Suspend,
            Action::Quit => return Effect::Quit,
        }
        self.settle();
        Effect::None
    }

    /// Scrolls or closes the overlay, if one is open; returns `None` if the action has further effects.
    fn apply_to_overlay(&mut self, action: Action) -> Option<Effect> {
        self.overlay?;
        let page = usize::from(self.size.1 / 2).max(1);
        let offset = self.overlay_offset;
        self.overlay_offset = match action {
            Action::Up => offset.saturating_sub(1),
            Action::Down => offset + 1,
            Action::PageUp => offset.saturating_sub(page),
            Action::PageDown => offset + page,
            Action::First => 0,
            Action::Quit | Action::Suspend | Action::Redraw => {
                self.overlay = None;
                return if action == Action::Quit { Some(Effect::None) } else { None };
            }
            _ => {
                self.overlay = None;
                return Some(Effect::None);
            }
        };
        self.overlay_offset = self.overlay_offset.min(self.overlay_lines().saturating_sub(1));
        Some(Effect::None)
    }

    fn overlay_lines(&self) -> usize {
        match self.overlay {
            Some(Overlay::Help) => BINDINGS.len(),
            Some(Overlay::Findings) => self.findings().len(),
            None => 0,
        }
    }

    fn open_overlay(&mut self, overlay: Overlay) {
        self.overlay = Some(overlay);
        self.overlay_offset = 0;
    }

    /// Opens a VM, without filters, marks and cursors of another one's tables.
    pub(super) fn open_vm(&mut self, pid: u32) {
        self.path = vec![Screen::Vm(pid)];
        self.tab = Tab::first(self.by);
        self.picks_tab = true;
        self.cursors.retain(|table, _| *table == TableId::Vms);
        self.filters.retain(|table, _| *table == TableId::Vms);
        self.marks.retain(|(table, _)| *table == TableId::Vms);
    }

    /// Opens the selected row.
    fn open_selected(&mut self) -> Effect {
        let (index, _) = self.cursor();
        let rows = self.rows();
        let Some(row) = rows.get(index) else { return Effect::None };
        let (item, label, name) = (row.item, row.label.clone(), row.name.clone());
        drop(rows);
        let effect = match (item, self.table()) {
            (Item::Vm(pid), _) => {
                self.open_vm(pid);
                Effect::Refresh
            }
            (Item::Vcpu(_), TableId::RowVcpus) => Effect::None,
            (Item::Vcpu(tid), _) => {
                self.path.push(Screen::Vcpu(tid));
                (self.tab, self.picks_tab) = (Tab::Reasons, true);
                Effect::Show
            }
            (Item::Reason(_) | Item::Detail(..), _) => {
                self.path.push(Screen::Row { tab: self.tab, item, label, name });
                self.cursors.remove(&TableId::RowVcpus);
                Effect::Show
            }
        };
        self.settle();
        effect
    }

    /// Removes the table's filter, or closes the screen opened last.
    fn back(&mut self) -> Effect {
        if self.filters.remove(&self.table()).is_some() {
            self.settle();
            return Effect::None;
        }
        let effect = match self.path.pop() {
            None => Effect::None,
            Some(Screen::Vcpu(_)) => {
                self.tab = Tab::Vcpus;
                Effect::Show
            }
            Some(_) => Effect::Show,
        };
        self.settle();
        effect
    }

    /// Switches to the next or previous tab that has rows.
    fn step_tab(&mut self, forward: bool) {
        let tabs: Vec<Tab> = self.tabs().map(|(tab, _)| tab).collect();
        let at = tabs.iter().position(|tab| *tab == self.tab).unwrap_or(0);
        let step = if forward { 1 } else { tabs.len() - 1 };
        let mut next = (1..tabs.len()).map(|steps| tabs[(at + steps * step) % tabs.len()]);
        let next = next.find(|tab| self.has_rows(*tab));
        self.go_to(next);
    }

    /// Switches to a tab, if a VM or vCPU is open.
    pub(in super::super) fn go_to(&mut self, tab: Option<Tab>) {
        if let (TableId::Tab(_), Some(tab)) = (self.table(), tab) {
            (self.tab, self.picks_tab) = (tab, false);
            self.settle();
        }
    }

    fn sort_by_next(&mut self) {
        let columns = self.shown_columns();
        let at = columns.iter().position(|(column, _)| column.figure == self.sorting().figure);
        let next = at.map_or(0, |at| (at + 1) % columns.len());
        if let Some((column, _)) = columns.get(next) {
            self.sort(Sorting::by(column.figure));
        }
    }

    /// Sorts by a column; reverses the order if it is the sort key already.
    pub(in super::super) fn sort_by(&mut self, figure: Figure) {
        let sorting = self.sorting();
        self.sort(if figure == sorting.figure {
            Sorting { descending: !sorting.descending, ..sorting }
        } else {
            Sorting::by(figure)
        });
        self.settle();
    }

    fn sort(&mut self, sorting: Sorting) {
        self.sorts.insert(self.set(), sorting);
    }

    /// Marks the selected row, or removes its mark.
    fn mark(&mut self) {
        let (index, table) = (self.cursor().0, self.table());
        let Some(item) = self.rows().get(index).map(|row| row.item) else { return };
        if !self.marks.remove(&(table, item)) {
            self.marks.insert((table, item));
        }
    }

    fn set_interval(&mut self, interval: Option<&Duration>) -> Effect {
        let Some(&interval) = interval else { return Effect::None };
        self.interval = interval;
        self.say(format!("every {}", humantime::format_duration(interval)));
        Effect::Interval
    }

    /// Appends a character to the filter; ignores control characters and those beyond the maximum length.
    pub(in super::super) fn type_filter(&mut self, c: char) {
        const LONGEST: usize = 64;
        let filter = self.filters.entry(self.table()).or_default();
        if !c.is_control() && filter.chars().count() < LONGEST {
            filter.push(c);
        }
        self.settle();
    }

    pub(in super::super) fn delete_from_filter(&mut self) {
        if let Some(filter) = self.filters.get_mut(&self.table()) {
            filter.pop();
        }
        self.settle();
    }

    /// Ends typing; restores the previous filter unless the new one is kept.
    pub(in super::super) fn end_filter(&mut self, keep: bool) {
        let table = self.table();
        if let Some(before) = self.typing.take().filter(|_| !keep) {
            self.filters.insert(table, before);
        }
        self.filters.retain(|_, filter| !filter.is_empty());
        self.settle();
    }

    /// Escaped names of the open screens, outermost first.
    pub(in super::super) fn names(&self) -> Vec<String> {
        let name = |screen: &Screen| match screen {
            Screen::Vm(_) => self.vm().map_or_else(String::new, |vm| safe(&vm.name)),
            Screen::Vcpu(tid) => match self.vcpu().and_then(|vcpu| vcpu.id) {
                Some(id) => format!("vCPU {id}"),
                None => format!("thread {tid}"),
            },
            Screen::Row { label, name, .. } if name.is_empty() => safe(label),
            Screen::Row { label, name, .. } => format!("{} {}", safe(label), safe(name)),
        };
        self.path.iter().map(name).collect()
    }
}
