//! Which rows of a table have series of their own: bounded, whatever a guest does.

use std::{cmp::Reverse, collections::BTreeMap};

use super::Sum;
use crate::{model::Detail, view::subject_label};

/// Rows of a table that have series of their own; what all others had is one series more. A row that has one
/// keeps it until nothing came for it in so many intervals as [`IDLE`] and another wants it.
pub const MOST_ROWS: usize = 24;

/// Intervals without anything.
const IDLE: u32 = 30;

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// `0x608`, without the direction.
    pub(super) what: String,
    /// `in`, `read` …; empty where there is none.
    pub(super) direction: &'static str,
    /// The device, or the name that Linux has; empty where there is none.
    pub(super) name: String,
}

impl Row {
    fn of(row: &Detail) -> Self {
        let subject = &row.subject;
        let label = subject_label(subject);
        let what = label.split(' ').next().unwrap_or_default().to_owned();
        let device = subject.device.as_ref().and_then(|device| device.name.clone());
        Self {
            what,
            direction: subject.direction.map_or("", |direction| direction.name()),
            name: device.or_else(|| subject.name.clone()).unwrap_or_default(),
        }
    }
}

/// The rows of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    own: BTreeMap<Row, (Sum, u32)>,
    others: Sum,
}

impl Rows {
    /// Adds what came in an interval.
    pub(super) fn add(&mut self, rows: &[Detail]) {
        for (_, idle) in self.own.values_mut() {
            *idle = idle.saturating_add(1);
        }
        let mut new: Vec<(Row, Sum)> = Vec::new();
        for row in rows.iter().filter(|row| row.stats.samples > 0) {
            let (key, sum) = (Row::of(row), Sum::of(&row.stats));
            match self.own.get_mut(&key) {
                Some((own, idle)) => {
                    own.add(sum);
                    *idle = 0;
                }
                None => new.push((key, sum)),
            }
        }
        // Those that come most often first.
        new.sort_by_key(|(_, sum)| Reverse(sum.samples));
        for (key, sum) in new {
            if self.has_room() {
                self.own.entry(key).or_default().0.add(sum);
            } else {
                self.others.add(sum);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        if self.own.len() >= MOST_ROWS {
            let idlest = self.own.iter().max_by_key(|(_, (_, idle))| *idle);
            let Some((key, _)) = idlest.filter(|(_, (_, idle))| *idle >= IDLE) else { return false };
            let key = key.clone();
            self.own.remove(&key);
        }
        true
    }

    /// Series and what they have come to; the last is of all others.
    pub(super) fn series(&self) -> impl Iterator<Item = (Option<&Row>, Sum)> {
        let own = self.own.iter().map(|(row, (sum, _))| (Some(row), *sum));
        own.chain((self.others.samples > 0).then_some((None, self.others)))
    }
}
