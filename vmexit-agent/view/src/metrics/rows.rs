//! Selection of the rows of a table that have their own series. Their number is limited, since guests choose the rows.

use std::{cmp::Reverse, collections::BTreeMap};

use vmexit_common::key::Kind;
use vmexit_core::{
    escape::safe,
    kind::{self, Direction},
    report::{Detail, Subject},
};

use super::{Labels, SeriesSum};
use crate::subject::number as subject_number;

/// Maximum number of rows per table with their own series. All other rows share one more series. A row keeps its
/// series until it has been idle for 30 intervals and another row needs it.
pub const MOST_ROWS: usize = 24;

/// Intervals without exits after which a row's series can be replaced.
const IDLE: u32 = 30;

/// Identity of a row in a table of details. JSON has the same fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowId {
    kind: Kind,
    /// `None` for the kind's `other` row.
    number: Option<u64>,
    direction: Option<Direction>,
}

impl RowId {
    fn of(row: &Detail) -> Self {
        let Subject { kind, number, direction, .. } = row.subject;
        Self { kind, number, direction }
    }

    /// The number as reports show it: ports and addresses are hexadecimal.
    fn number(&self) -> String {
        self.number.map_or_else(|| OTHER.into(), |number| subject_number(self.kind, number))
    }
}

/// Label `number` of rows without a number and of the shared series.
const OTHER: &str = "other";

/// The series of one row.
#[derive(Clone, Debug, Default)]
struct RowSeries {
    /// Device, or Linux's name of the number; empty if neither is known. The device is a guess until QEMU has
    /// answered.
    name: String,
    sum: SeriesSum,
    /// Intervals since the last exit.
    idle: u32,
}

/// The series of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    own: BTreeMap<RowId, RowSeries>,
    /// The shared series.
    others: SeriesSum,
}

impl Rows {
    /// Adds the rows of an interval, with counts and times multiplied by `scale`.
    pub(super) fn add(&mut self, rows: &[Detail], scale: f64) {
        for series in self.own.values_mut() {
            series.idle = series.idle.saturating_add(1);
        }
        let mut rows: Vec<&Detail> = rows.iter().filter(|row| row.stats.samples > 0).collect();
        // If there is room for some new rows only, the most frequent get a series.
        rows.sort_by_key(|row| Reverse(row.stats.samples));
        for row in rows {
            let (key, sum) = (RowId::of(row), SeriesSum::of(&row.stats, scale));
            if self.own.contains_key(&key) || self.make_room() {
                let series = self.own.entry(key).or_default();
                series.sum.add(sum);
                series.name = name(row);
                series.idle = 0;
            } else {
                self.others.add(sum);
            }
        }
    }

    /// Makes room for one more series, if necessary by dropping the row that has been idle longest; returns whether
    /// there is room.
    fn make_room(&mut self) -> bool {
        if self.own.len() >= MOST_ROWS {
            let idlest = self.own.iter().max_by_key(|(_, series)| series.idle);
            let idlest = idlest.filter(|(_, series)| series.idle >= IDLE);
            let Some(key) = idlest.map(|(key, _)| key.clone()) else { return false };
            self.own.remove(&key);
        }
        true
    }

    /// Labels and sums of all series; the shared one is last, and missing if no row needed it.
    pub(super) fn series(&self) -> impl Iterator<Item = (Labels, SeriesSum)> {
        let own = self.own.iter().map(|(id, series)| {
            let direction = id.direction.map_or("", Direction::name);
            (labels(kind::name(id.kind), id.number(), direction, safe(&series.name)), series.sum)
        });
        let others = (self.others.samples > 0).then_some(self.others);
        // No kind: the shared series can have several.
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
