//! Columns of all tables: titles, widths, and priorities on narrow screens.

use self::{
    Figure as F,
    Needs::{Exits, Nothing, Times, Userspace},
};
use super::state::FigureContext;
use crate::figure::Figure;

/// Data without which a column has no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Exits, not only other events.
    Exits,
    /// Durations.
    Times,
    /// Time in userspace.
    Userspace,
}

/// Column of a table in the live view.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in the configuration file.
    pub id: &'static str,
    /// Title; that of a [`Figure::Label`] or [`Figure::Name`] depends on the table.
    title: &'static str,
    /// Title while absolute figures are displayed.
    absolute: &'static str,
    /// Value of the cells.
    pub(super) figure: Figure,
    /// Minimum width, columns of the terminal.
    width: u16,
    /// Maximum width, columns of the terminal.
    widest: u16,
    /// Columns with the highest number are left out first on a narrow screen; those with 0 are never left out.
    priority: u8,
    /// Whether cells are right-aligned.
    pub(super) right: bool,
    needs: Needs,
}

/// A set of columns. Tables with the same kind of row share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Columns of the list of VMs.
    Vms,
    /// Columns of exit reasons and details.
    Rows,
    /// Columns of the vCPUs of a VM.
    Vcpus,
}

/// A left-aligned column; its width is given as minimum and maximum.
const fn text(
    id: &'static str,
    title: &'static str,
    figure: Figure,
    (width, widest): (u16, u16),
    priority: u8,
    needs: Needs,
) -> Column {
    Column { id, title, absolute: title, figure, width, widest, priority, right: false, needs }
}

/// A right-aligned column of fixed width; its titles are given for shares and for absolute figures.
const fn number(
    id: &'static str,
    (title, absolute): (&'static str, &'static str),
    figure: Figure,
    width: u16,
    priority: u8,
    needs: Needs,
) -> Column {
    Column { id, title, absolute, figure, width, widest: width, priority, right: true, needs }
}

#[rustfmt::skip]
static VMS: [Column; 10] = [
    text("vm", "VM", F::Label, (10, 40), 0, Nothing),
    number("pid", ("PID", "PID"), F::Process, 7, 6, Nothing),
    number("vcpus", ("vCPUs", "vCPUs"), F::Vcpus, 6, 5, Nothing),
    number("exits", ("Exits/s", "Exits/s"), F::Rate, 9, 0, Nothing),
    number("handled", ("Handled%", "Handled"), F::Time, 9, 1, Times),
    number("user", ("User%", "User"), F::User, 7, 5, Userspace),
    number("waiting", ("Wait%", "Waiting"), F::Waiting, 7, 4, Times),
    text("reason", "Top reason", F::Reason, (13, 28), 2, Exits),
    text("detail", "Top detail", F::Detail, (17, 44), 2, Nothing),
    text("trend", "Trend", F::Trend, (6, 48), 3, Nothing),
];

#[rustfmt::skip]
static ROWS: [Column; 13] = [
    text("what", "", F::Label, (14, 24), 0, Nothing),
    text("name", "", F::Name, (14, 44), 1, Nothing),
    number("rate", ("Rate/s", "Rate/s"), F::Rate, 9, 0, Nothing),
    number("samples", ("Samples%", "Samples"), F::Samples, 11, 1, Nothing),
    number("time", ("Time%", "Time"), F::Time, 8, 1, Times),
    number("user", ("User%", "User"), F::User, 7, 4, Userspace),
    number("waiting", ("Waiting", "Waiting"), F::Waiting, 7, 5, Times),
    number("min", ("Min", "Min"), F::Min, 7, 7, Times),
    number("p50", ("p50", "p50"), F::P50, 7, 4, Times),
    number("avg", ("Avg", "Avg"), F::Avg, 7, 2, Times),
    number("error", ("±", "±"), F::Error, 6, 8, Times),
    number("p99", ("p99", "p99"), F::P99, 7, 3, Times),
    number("max", ("Max", "Max"), F::Max, 7, 6, Times),
];

#[rustfmt::skip]
static VCPUS: [Column; 8] = [
    text("vcpu", "vCPU", F::Label, (8, 8), 0, Nothing),
    number("thread", ("Thread", "Thread"), F::Process, 8, 3, Nothing),
    number("exits", ("Exits/s", "Exits/s"), F::Rate, 9, 0, Nothing),
    number("samples", ("Exits", "Exits"), F::Samples, 11, 2, Nothing),
    number("handled", ("Handled%", "Handled"), F::Time, 9, 1, Times),
    number("user", ("User%", "User"), F::User, 7, 4, Userspace),
    number("waiting", ("Wait%", "Waiting"), F::Waiting, 7, 2, Times),
    text("trend", "Trend", F::Trend, (6, 60), 3, Nothing),
];

impl Set {
    /// All sets, with their names in the configuration file.
    pub const ALL: [(&'static str, Self); 3] =
        [("vms", Self::Vms), ("rows", Self::Rows), ("vcpus", Self::Vcpus)];

    /// Columns of the set, from left to right.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Vms => &VMS,
            Self::Rows => &ROWS,
            Self::Vcpus => &VCPUS,
        }
    }
}

impl Column {
    /// Whether the column has values.
    pub(super) fn is_known(&self, show: FigureContext) -> bool {
        match self.needs {
            Nothing => true,
            Exits => show.exits,
            Times => show.times,
            Userspace => show.userspace,
        }
    }

    /// Title of the column.
    pub(super) fn title(&self, show: FigureContext) -> &'static str {
        match self.figure {
            F::Rate if !show.exits => "Events/s",
            _ if show.absolute => self.absolute,
            _ => self.title,
        }
    }
}

/// The columns that fit into a width of `room` with one space between them, each with its width. The result does not
/// depend on the rows, so columns do not move from interval to interval.
pub(super) fn fit(columns: Vec<&'static Column>, room: u16) -> Vec<(&'static Column, u16)> {
    let mut by_priority = columns.clone();
    by_priority.sort_by_key(|column| column.priority);
    let mut left = room.saturating_add(1);
    let mut fitting = Vec::new();
    for column in by_priority {
        if column.priority == 0 || column.width < left {
            left = left.saturating_sub(column.width + 1);
            fitting.push(column.figure);
        }
    }
    let mut widths: Vec<_> = columns
        .into_iter()
        .filter(|column| fitting.contains(&column.figure))
        .map(|column| (column, column.width))
        .collect();
    while left > 0 {
        let before = left;
        for (column, width) in &mut widths {
            if *width < column.widest && left > 0 {
                *width += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use vmexit_core::choice::Choice as _;

    use super::*;

    const SHOW: FigureContext =
        FigureContext { absolute: false, exits: true, times: true, userspace: true, seconds: 1.0 };

    fn widths(set: Set, room: u16) -> Vec<(&'static str, u16)> {
        let columns = set.columns().iter().filter(|column| column.is_known(SHOW)).collect();
        fit(columns, room).iter().map(|(column, width)| (column.id, *width)).collect()
    }

    #[test]
    fn fit_on_narrow_screen_keeps_main_columns() {
        let names = |set| widths(set, 78).iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(
            names(Set::Vms),
            ["vm", "exits", "handled", "waiting", "reason", "detail", "trend"]
        );
        assert_eq!(names(Set::Rows), ["what", "name", "rate", "samples", "time", "avg", "p99"]);
        assert_eq!(widths(Set::Vms, 1), [("vm", 10), ("exits", 9)]);
    }

    #[test]
    fn fit_fills_the_room_unless_columns_are_at_their_widest() {
        for (_, set) in Set::ALL {
            for room in 60..400 {
                let widths = widths(set, room);
                let taken: u16 = widths.iter().map(|(_, width)| width + 1).sum();
                assert!(taken <= room + 1, "{taken} of {room}");
                let widest = |(id, width): &(&str, u16)| {
                    set.columns().iter().any(|column| column.id == *id && column.widest == *width)
                };
                assert!(taken == room + 1 || widths.iter().all(widest), "{taken} of {room}");
            }
        }
    }

    #[test]
    fn column_ids_are_unique_within_a_set() {
        for (_, set) in Set::ALL {
            for (at, column) in set.columns().iter().enumerate() {
                assert!(set.columns()[..at].iter().all(|other| other.id != column.id));
            }
        }
    }

    #[test]
    fn sort_names_are_names_of_columns() {
        let columns = Set::Rows.columns();
        for (_, name, _) in Figure::CHOICES {
            assert!(columns.iter().any(|column| column.id == *name), "{name}");
        }
    }
}
