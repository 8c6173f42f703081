//! Layout of the screen, for drawing and for clicks.

use ratatui::layout::{Constraint, Layout, Rect};

use super::state::{Screen, State, Tab, TableId};

/// Minimum width of a screen that has the distribution to the right of its table, columns.
const WIDE: u16 = 140;

/// Width of a distribution to the right of its table, columns.
const BESIDE: u16 = 68;

/// Maximum height of a distribution, lines.
const HIGHEST: u16 = 20;

/// Width of the cursor and marks to the left of a table, columns.
pub(super) const MARKER: u16 = 2;

/// Minimum and maximum height of a distribution below its table, including its title, lines.
const BELOW: (u16, u16) = (7, 14);

/// Minimum height of a table above a distribution, including its titles, lines.
const TABLE: u16 = 6;

/// Areas of the screen, from top to bottom. An area without lines is not displayed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Areas {
    /// Host, totals and time.
    pub(super) title: Rect,
    /// Warnings.
    pub(super) banners: Rect,
    /// Name and figures of the open screen.
    pub(super) heading: Rect,
    /// Titles of the VM's tables.
    pub(super) tabs: Rect,
    /// The table with its column titles.
    pub(super) table: Rect,
    /// Distribution of the selected or open row.
    pub(super) distribution: Rect,
    /// Trend of the open row.
    pub(super) trend: Rect,
    /// First finding of the open or selected VM.
    pub(super) findings: Rect,
    /// Filter, message or hints.
    pub(super) status: Rect,
}

/// The areas of a screen of size `area`.
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
        Constraint::Length(u16::from(state.vm_with_findings().is_some())),
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

/// Areas of a table, and of a distribution to the right of it or below it, if that fits.
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
