//! Which rows of a table have series of their own: bounded, whatever a guest does.

use std::{cmp::Reverse, collections::BTreeMap};

use vmexit_common::key::Kind;
use vmexit_core::{
    escape::safe,
    kind::{self, Direction},
    report::{Detail, Subject},
};

use super::{Labels, SeriesSum};
use crate::subject::number as subject_number;

/// Rows of a table that have series of their own; what all others had is one series more. A row that has one
/// keeps it until nothing came for it in 30 intervals and another wants it.
pub const MOST_ROWS: usize = 24;

/// Those intervals.
const IDLE: u32 = 30;

/// What a series is of: a row of a table of details, by the same parts as in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowId {
    kind: Kind,
    /// `None` for what found no row of its own in the kernel.
    number: Option<u64>,
    direction: Option<Direction>,
}

impl RowId {
    fn of(row: &Detail) -> Self {
        let Subject { kind, number, direction, .. } = row.subject;
        Self { kind, number, direction }
    }

    /// Number as in the live view and in reports: ports and addresses hexadecimal.
    fn number(&self) -> String {
        self.number.map_or_else(|| OTHER.into(), |number| subject_number(self.kind, number))
    }
}

/// The number of the series of all rows without one of their own.
const OTHER: &str = "other";

/// A series.
#[derive(Clone, Debug, Default)]
struct RowSeries {
    /// The device, or the name that Linux has; empty where there is none. It is guessed until the VM has
    /// answered.
    name: String,
    sum: SeriesSum,
    /// Intervals since something came.
    idle: u32,
}

/// The rows of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    own: BTreeMap<RowId, RowSeries>,
    others: SeriesSum,
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
            let (key, sum) = (RowId::of(row), SeriesSum::of(&row.stats, scale));
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

    /// Labels and sums: rows with a series of their own, then all others together if there were any.
    pub(super) fn series(&self) -> impl Iterator<Item = (Labels, SeriesSum)> {
        let own = self.own.iter().map(|(id, series)| {
            let direction = id.direction.map_or("", Direction::name);
            (labels(kind::name(id.kind), id.number(), direction, safe(&series.name)), series.sum)
        });
        let others = (self.others.samples > 0).then_some(self.others);
        // Without a kind: of all kinds of the table.
        own.chain(others.map(|sum| (labels("", OTHER.into(), "", String::new()), sum)))
    }
}

fn labels(kind: &str, number: String, direction: &str, name: String) -> Labels {
    vec![
        ("kind", kind.to_owned()),
        ("number", number),
        ("direction", direction.to_owned()),
        ("name", name),
    ]
}

fn name(row: &Detail) -> String {
    let subject = &row.subject;
    let device = subject.device.as_ref().and_then(|device| device.name.clone());
    device.or_else(|| subject.name.clone()).unwrap_or_default()
}
