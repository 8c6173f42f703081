//! Options of tables: order, number of rows, and whether vCPUs have their own.

use std::cmp::Ordering;

use vmexit_core::{
    choice::Choice,
    event::Event,
    report::{Report, Scope, Selection, Stats, Tables},
};

use crate::figure::Figure;

/// Options of the tables of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Whether vCPUs have tables too.
    pub by: By,
    /// Sort key of the rows, highest value first. Exits in which the vCPU waits come last, as waiting is no cost,
    /// unless the key is the waiting time.
    pub sort: Figure,
    /// Maximum number of rows per table; `None` for all.
    pub rows: Option<usize>,
}

impl Default for TableOptions {
    /// Tables of each VM with all rows, sorted by time.
    fn default() -> Self {
        Self { by: By::Vm, sort: Figure::Time, rows: None }
    }
}

/// Unit for which there are tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// VMs only.
    #[default]
    Vm,
    /// VMs and their vCPUs.
    Vcpu,
}

#[rustfmt::skip]
impl Choice for By {
    const CHOICES: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Vm,   "vm",   "Each VM"),
        (Self::Vcpu, "vcpu", "Each vCPU too"),
    ];
}

impl TableOptions {
    /// Scope of a report that has these tables.
    pub fn scope(&self) -> Scope {
        Scope { vms: Selection::All, vcpus: self.by == By::Vcpu }
    }

    /// Sorts the tables of a report, and drops the rows beyond the maximum.
    pub fn arrange(&self, report: &mut Report) {
        for vm in &mut report.vms {
            self.arrange_tables(&mut vm.tables);
            for vcpu in &mut vm.vcpus {
                vcpu.tables.iter_mut().for_each(|tables| self.arrange_tables(tables));
            }
        }
    }

    fn arrange_tables(&self, tables: &mut Tables) {
        tables.exits.sort_by(|one, other| {
            let waits = (one.waits && self.sort != Figure::Waiting)
                .cmp(&(other.waits && self.sort != Figure::Waiting));
            waits.then_with(|| self.order((&one.stats, one.waits), (&other.stats, other.waits)))
        });
        for rows in tables.details.values_mut() {
            rows.sort_by(|one, other| self.order((&one.stats, false), (&other.stats, false)));
        }
        if let Some(most) = self.rows {
            cut(tables, most);
        }
    }

    /// Order of two rows, given as their figures and whether they wait: highest value first, unknown values last, equal
    /// values by number of exits.
    fn order(&self, one: (&Stats, bool), other: (&Stats, bool)) -> Ordering {
        // The time of exits that wait is their waiting time.
        let figure = |waits: bool| match self.sort {
            Figure::Time if waits => Figure::Waiting,
            figure => figure,
        };
        let value = |(stats, waits): (&Stats, bool)| {
            figure(waits).value(stats, waits).unwrap_or(f64::NEG_INFINITY)
        };
        value(other).total_cmp(&value(one)).then(other.0.samples.cmp(&one.0.samples))
    }
}

/// Keeps the first `most` rows of each table, and notes the number of rows dropped.
fn cut(tables: &mut Tables, most: usize) {
    let mut note = |event, rows: usize| {
        if rows > most {
            tables.hidden.insert(event, rows - most);
        }
    };
    note(Event::Vmexit, tables.exits.len());
    tables.exits.truncate(most);
    for (&event, rows) in &mut tables.details {
        note(event, rows.len());
        rows.truncate(most);
    }
}
