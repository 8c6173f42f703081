//! Tables as a user wants them: of VMs or of vCPUs too, in which order, how many rows.

use std::cmp::Ordering;

use vmexit_core::{
    choice::Choice,
    event::Event,
    report::{Report, Scope, Selection, Stats, Tables},
};

use crate::figure::Figure;

/// How tables are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// What has tables.
    pub by: By,
    /// What rows are ordered by, the highest first. Waiting is no cost: exits that wait come after all others.
    pub sort: Figure,
    /// Rows of a table at most; all if `None`.
    pub rows: Option<usize>,
}

impl Default for TableOptions {
    /// Whole tables of each VM, by time.
    fn default() -> Self {
        Self { by: By::Vm, sort: Figure::Time, rows: None }
    }
}

/// What has tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Each VM.
    #[default]
    Vm,
    /// Each vCPU too.
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
    /// The scope of a report that is to be shown so.
    pub fn scope(&self) -> Scope {
        Scope { vms: Selection::All, vcpus: self.by == By::Vcpu }
    }

    /// Sorts the tables of a report, and cuts them.
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

    /// The highest first, unknown values last, rows of the same value by samples.
    fn order(&self, one: (&Stats, bool), other: (&Stats, bool)) -> Ordering {
        // Of exits that wait, time is their waiting.
        let figure = |waits: bool| match self.sort {
            Figure::Time if waits => Figure::Waiting,
            figure => figure,
        };
        let value = |(stats, waits): (&Stats, bool)| {
            figure(waits).of(stats, waits).unwrap_or(f64::NEG_INFINITY)
        };
        value(other).total_cmp(&value(one)).then(other.0.samples.cmp(&one.0.samples))
    }
}

/// Keeps `most` rows of each table, and notes how many it had more.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_names_are_names_of_columns() {
        let columns = crate::top::Set::Rows.columns();
        for (figure, name, _) in Figure::CHOICES {
            assert!(columns.iter().any(|column| column.id == *name), "{name}");
            assert!(figure.field().is_some(), "{name}");
        }
    }
}
