//! How tables are to be: by what, in which order, how long.

use std::cmp::Reverse;

use super::{Stats, Tables};
use crate::probe::Event;

/// What the tables of a report are to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// What has tables of its own.
    pub by: By,
    /// In which order rows come.
    pub sort: Sort,
    /// Most rows of a table; all if `None`.
    pub top: Option<usize>,
    /// Which VMs are to have tables. Of the others a report has the totals.
    pub tables: Whose,
}

/// Which VMs something is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// All.
    #[default]
    All,
    /// The one of this process.
    Vm(u32),
    /// None of them.
    Nobody,
}

impl Whose {
    pub(super) fn includes(self, pid: u32) -> bool {
        match self {
            Self::All => true,
            Self::Vm(only) => only == pid,
            Self::Nobody => false,
        }
    }
}

/// What has tables of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Each VM
    #[default]
    Vm,
    /// Each vCPU too
    Vcpu,
}

/// What rows are ordered by, most first. Waiting is no cost, so exits that wait come after all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// The time that all of them took together
    #[default]
    Time,
    /// How many there were
    Samples,
    /// The mean time
    Avg,
    /// The longest time
    Max,
}

impl Sort {
    fn weight(self, stats: &Stats) -> (u64, u64) {
        let first = match self {
            Self::Time => stats.total_ns,
            Self::Samples => stats.samples,
            Self::Avg => stats.avg_ns.unwrap_or(0),
            Self::Max => stats.max_ns.unwrap_or(0),
        };
        (first, stats.samples)
    }
}

impl Tables {
    pub(super) fn sort(&mut self, sort: Sort) {
        self.exits.sort_by_key(|exit| (exit.waits, Reverse(sort.weight(&exit.stats))));
        for rows in self.details.values_mut() {
            rows.sort_by_key(|row| Reverse(sort.weight(&row.stats)));
        }
    }

    /// Keeps so many rows of each table, and how many it had more.
    pub(super) fn cut(&mut self, top: Option<usize>) {
        let Some(top) = top else { return };
        let mut note = |event, rows: usize| {
            if rows > top {
                self.hidden.insert(event, rows - top);
            }
        };
        note(Event::Vmexit, self.exits.len());
        self.exits.truncate(top);
        for (&event, rows) in &mut self.details {
            note(event, rows.len());
            rows.truncate(top);
        }
    }
}
