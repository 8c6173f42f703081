//! The columns of all tables, as data: what they are called, how wide they are, and which of them go
//! first where a screen is narrow.

use self::{
    Figure as F,
    Needs::{Exits, Nothing, Times, Userspace},
};
use super::state::FigureContext;
use crate::figure::Figure;

/// What must be known for a column to say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Exits,
    Times,
    Userspace,
}

/// One column.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the configuration file.
    pub id: &'static str,
    /// Above it.
    title: &'static str,
    /// Above it while absolute figures are shown.
    absolute: &'static str,
    pub(super) figure: Figure,
    width: u16,
    /// As wide as it may get where there is room.
    widest: u16,
    /// Which goes first where there is none: the highest; 0 stays.
    priority: u8,
    /// Whether its cells end where it ends.
    pub(super) right: bool,
    needs: Needs,
}

/// A set of columns: tables of the same kind of row have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// VMs.
    Vms,
    /// Exit reasons, and what exits were for.
    Rows,
    /// vCPUs.
    Vcpus,
}

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
    /// All of them, by their names in the configuration file.
    pub const ALL: [(&'static str, Self); 3] =
        [("vms", Self::Vms), ("rows", Self::Rows), ("vcpus", Self::Vcpus)];

    /// Its columns, from left to right.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Vms => &VMS,
            Self::Rows => &ROWS,
            Self::Vcpus => &VCPUS,
        }
    }
}

impl Column {
    /// Whether it has anything to say.
    pub(super) fn is_known(&self, show: FigureContext) -> bool {
        match self.needs {
            Nothing => true,
            Exits => show.exits,
            Times => show.times,
            Userspace => show.userspace,
        }
    }

    pub(super) fn title(&self, show: FigureContext) -> &'static str {
        match self.figure {
            F::Rate if !show.exits => "Events/s",
            _ if show.absolute => self.absolute,
            _ => self.title,
        }
    }
}

/// Which of these columns fit into so many, with one between them, and how wide each is. Nothing of it
/// depends on what is in the rows, so columns stay where they are.
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
    use super::*;

    const SHOW: FigureContext =
        FigureContext { absolute: false, exits: true, times: true, userspace: true, seconds: 1.0 };

    fn widths(set: Set, room: u16) -> Vec<(&'static str, u16)> {
        let columns = set.columns().iter().filter(|column| column.is_known(SHOW)).collect();
        fit(columns, room).iter().map(|(column, width)| (column.id, *width)).collect()
    }

    #[test]
    fn a_narrow_screen_has_what_matters() {
        let names = |set| widths(set, 78).iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(
            names(Set::Vms),
            ["vm", "exits", "handled", "waiting", "reason", "detail", "trend"]
        );
        assert_eq!(names(Set::Rows), ["what", "name", "rate", "samples", "time", "avg", "p99"]);
        assert_eq!(widths(Set::Vms, 1), [("vm", 10), ("exits", 9)]);
    }

    #[test]
    fn what_fits_fills_the_screen_and_no_more() {
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
    fn names_are_unique() {
        for (_, set) in Set::ALL {
            for (at, column) in set.columns().iter().enumerate() {
                assert!(set.columns()[..at].iter().all(|other| other.id != column.id));
            }
        }
    }
}
