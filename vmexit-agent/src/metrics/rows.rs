//! Which rows of a table have series of their own: bounded, whatever a guest does.

use std::{cmp::Reverse, collections::BTreeMap};

use super::Sum;
use crate::{model::Detail, view::subject_label};

/// Rows of a table that have series of their own; what all others had is one series more. A row that has one
/// keeps it until nothing came for it in 30 intervals and another wants it.
pub const MOST_ROWS: usize = 24;

/// Those intervals.
const IDLE: u32 = 30;

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// `0x608`, without the direction.
    pub(super) what: String,
    /// `in`, `read` …; empty where there is none.
    pub(super) direction: &'static str,
}

impl Row {
    fn of(row: &Detail) -> Self {
        let label = subject_label(&row.subject);
        Self {
            what: label.split(' ').next().unwrap_or_default().to_owned(),
            direction: row.subject.direction.map_or("", |direction| direction.name()),
        }
    }
}

/// A series.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    /// The device, or the name that Linux has; empty where there is none. It is guessed until the VM has
    /// answered.
    pub(super) name: String,
    pub(super) sum: Sum,
    /// Intervals since something came.
    idle: u32,
}

/// The rows of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    own: BTreeMap<Row, Series>,
    others: Sum,
}

impl Rows {
    /// Adds what came in an interval.
    pub(super) fn add(&mut self, rows: &[Detail], scale: f64) {
        for series in self.own.values_mut() {
            series.idle = series.idle.saturating_add(1);
        }
        let mut rows: Vec<&Detail> = rows.iter().filter(|row| row.stats.samples > 0).collect();
        // Those that come most often have the first choice.
        rows.sort_by_key(|row| Reverse(row.stats.samples));
        for row in rows {
            let (key, sum) = (Row::of(row), Sum::of(&row.stats, scale));
            if self.own.contains_key(&key) || self.has_room() {
                let series = self.own.entry(key).or_default();
                series.sum.add(sum);
                series.name = name(row);
                series.idle = 0;
            } else {
                self.others.add(sum);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        if self.own.len() >= MOST_ROWS {
            let idlest = self.own.iter().max_by_key(|(_, series)| series.idle);
            let idlest = idlest.filter(|(_, series)| series.idle >= IDLE);
            let Some(key) = idlest.map(|(key, _)| key.clone()) else { return false };
            self.own.remove(&key);
        }
        true
    }

    pub(super) fn own(&self) -> impl Iterator<Item = (&Row, &Series)> {
        self.own.iter()
    }

    /// What all rows without a series of their own had, if there were any.
    pub(super) fn others(&self) -> Option<Sum> {
        (self.others.samples > 0).then_some(self.others)
    }
}

fn name(row: &Detail) -> String {
    let subject = &row.subject;
    let device = subject.device.as_ref().and_then(|device| device.name.clone());
    device.or_else(|| subject.name.clone()).unwrap_or_default()
}
