//! Tables of the live view, their sort keys and their cursors.

use std::collections::BTreeMap;

use vmexit_core::event::Event;

use super::Item;
use crate::{figure::Figure, options::By, top::columns::Set};

/// A table of a VM or vCPU, selected by a tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Tab {
    /// Exit reasons.
    Reasons,
    /// Details of one event.
    Details(Event),
    /// vCPUs of the VM.
    Vcpus,
}

/// A table with its own cursor, filter and marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum TableId {
    /// The list of VMs.
    Vms,
    /// A table of the open VM or vCPU.
    Tab(Tab),
    /// The vCPUs that have the open row.
    RowVcpus,
}

/// Selected row and scroll position of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// The selected row; `None` before the table has had rows.
    pub(super) item: Option<Item>,
    /// Last label of the row, which stays on the screen even if a report does not have it.
    pub(super) label: String,
    /// Last name of the row.
    pub(super) name: String,
    /// Index of the selected row.
    pub(super) index: usize,
    /// Index of the first row on the screen.
    pub(super) offset: usize,
}

/// Sort key and direction of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Sorting {
    pub(in super::super) figure: Figure,
    pub(in super::super) descending: bool,
}

impl Tab {
    /// All tabs with their titles, from left to right.
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

    /// The first tab of an opened VM.
    pub(super) fn first(by: By) -> Self {
        match by {
            By::Vm => Self::Reasons,
            By::Vcpu => Self::Vcpus,
        }
    }
}

impl Sorting {
    /// The usual direction for a figure: ascending for text and IDs, descending for other numbers.
    pub(super) fn by(figure: Figure) -> Self {
        let is_text = matches!(figure, Figure::Label | Figure::Name | Figure::Process);
        Self { figure, descending: !is_text }
    }
}

/// Initial sort key of each set of columns.
pub(super) fn sorts(sort: Figure) -> BTreeMap<Set, Sorting> {
    // VMs have fewer figures than exits.
    let vms = match sort {
        Figure::Samples | Figure::Rate => Figure::Rate,
        Figure::User | Figure::Waiting => sort,
        _ => Figure::Time,
    };
    let vcpus = Sorting::by(Figure::Label);
    [(Set::Rows, Sorting::by(sort)), (Set::Vms, Sorting::by(vms)), (Set::Vcpus, vcpus)].into()
}
