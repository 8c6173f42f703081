//! Which part of the terminal shows what. Drawing and clicks go by the same areas.

use ratatui::layout::{Constraint, Layout, Rect};

use super::state::{Screen, State, Tab, TableId};

/// Columns from which on a distribution stands beside its table.
const WIDE: u16 = 140;

/// Columns that it then has.
const BESIDE: u16 = 68;

/// Lines that it has at most.
const HIGHEST: u16 = 20;

/// Columns at the left of a table for the cursor and marks.
pub(super) const MARKER: u16 = 2;

/// Lines of a distribution below its table, its title included: the fewest and the most.
const BELOW: (u16, u16) = (7, 14);

/// Lines of a table that a distribution leaves at least, titles included.
const TABLE: u16 = 6;

/// The parts, from top to bottom; one without lines is not there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Areas {
    pub(super) title: Rect,
    pub(super) banners: Rect,
    /// What is open, and its figures.
    pub(super) heading: Rect,
    pub(super) tabs: Rect,
    pub(super) table: Rect,
    /// The distribution of the selected or open row.
    pub(super) distribution: Rect,
    /// The trend of the open row.
    pub(super) trend: Rect,
    pub(super) findings: Rect,
    pub(super) status: Rect,
}

pub(super) fn areas(state: &State, area: Rect) -> Areas {
    let (heading, tabs) = match state.path().last() {
        None => (0, 0),
        Some(Screen::Vm(_) | Screen::Vcpu(_)) => (2, 1),
        Some(Screen::Row { .. }) => (4, 0),
    };
    let parts = [
        Constraint::Length(1),
        Constraint::Length(state.banners().len() as u16),
        Constraint::Length(heading),
        Constraint::Length(tabs),
        Constraint::Fill(1),
        Constraint::Length(u16::from(state.found().is_some())),
        Constraint::Length(1),
    ];
    let [title, banners, heading, tabs, body, findings, status] =
        Layout::vertical(parts).areas(area);
    let mut areas =
        Areas { title, banners, heading, tabs, table: body, findings, status, ..Areas::default() };
    let times = state.figures().times;
    match state.table() {
        TableId::Vms | TableId::Tab(Tab::Vcpus) => {}
        TableId::Tab(_) if !times => {}
        TableId::Tab(_) => {
            [areas.table, areas.distribution] = with_distribution(body);
        }
        TableId::RowVcpus => {
            let [charts, table] = if body.width >= WIDE {
                Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(body)
            } else {
                Layout::vertical([Constraint::Fill(2), Constraint::Fill(1)]).areas(body)
            };
            areas.table = table;
            let trend = if times { Constraint::Max(4) } else { Constraint::Fill(1) };
            let distribution = if times { Constraint::Max(HIGHEST) } else { Constraint::Length(0) };
            [areas.distribution, areas.trend] =
                Layout::vertical([distribution, trend]).areas(charts);
        }
    }
    areas
}

/// A table, and a distribution beside or below it if there is room for that.
fn with_distribution(body: Rect) -> [Rect; 2] {
    if body.width >= WIDE {
        let parts = [Constraint::Fill(1), Constraint::Length(BESIDE)];
        let [table, beside] = Layout::horizontal(parts).spacing(2).areas(body);
        return [table, Rect { height: beside.height.min(HIGHEST), ..beside }];
    }
    let (fewest, most) = BELOW;
    let below =
        if body.height >= TABLE + fewest { (body.height / 2).clamp(fewest, most) } else { 0 };
    Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(body)
}
