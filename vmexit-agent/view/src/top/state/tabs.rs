//! Which tables there are, and what is remembered of each: what it is ordered by, and where somebody looks.

use std::collections::BTreeMap;

use vmexit_core::event::Event;

use super::Item;
use crate::{figure::Figure, options::By, top::columns::Set};

/// One of a VM's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Tab {
    /// Exit reasons.
    Reasons,
    /// What exits of one kind were for.
    Details(Event),
    /// vCPUs.
    Vcpus,
}

/// A table with a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum TableId {
    Vms,
    Tab(Tab),
    /// The vCPUs that have a row.
    RowVcpus,
}

/// Where somebody looks in a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    pub(super) item: Option<Item>,
    /// What it was called last: it stays in sight when a report has nothing of it.
    pub(super) label: String,
    pub(super) name: String,
    /// Its place among the rows.
    pub(super) index: usize,
    /// The first row in sight.
    pub(super) offset: usize,
}

/// What a table is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Sorting {
    pub(in super::super) figure: Figure,
    pub(in super::super) descending: bool,
}

impl Tab {
    /// All of them, with their titles, from left to right.
    pub(in super::super) const ALL: [(Self, &'static str); 9] = [
        (Self::Reasons, "Reasons"),
        (Self::Details(Event::Ioport), "Ports"),
        (Self::Details(Event::Mmio), "MMIO"),
        (Self::Details(Event::Msr), "MSR"),
        (Self::Details(Event::Cpuid), "CPUID"),
        (Self::Details(Event::Hypercall), "Hypercalls"),
        (Self::Details(Event::Userspace), "User"),
        (Self::Details(Event::Fault), "Faults"),
        (Self::Vcpus, "vCPUs"),
    ];

    pub(super) fn first(by: By) -> Self {
        match by {
            By::Vm => Self::Reasons,
            By::Vcpu => Self::Vcpus,
        }
    }
}

impl Sorting {
    /// Text from A to Z, numbers from the highest down.
    pub(super) fn by(figure: Figure) -> Self {
        let is_text = matches!(figure, Figure::Label | Figure::Name | Figure::Process);
        Self { figure, descending: !is_text }
    }
}

/// How each set of columns is ordered at first.
pub(super) fn sorts(sort: Figure) -> BTreeMap<Set, Sorting> {
    // VMs have fewer figures than rows of exits.
    let vms = match sort {
        Figure::Samples | Figure::Rate => Figure::Rate,
        Figure::User | Figure::Waiting => sort,
        _ => Figure::Time,
    };
    let vcpus = Sorting::by(Figure::Label);
    [(Set::Rows, Sorting::by(sort)), (Set::Vms, Sorting::by(vms)), (Set::Vcpus, vcpus)].into()
}
