//! Rows of a table before and after.

use std::collections::BTreeMap;

use serde::Serialize;
use vmexit_common::key::Kind;

use super::{
    Side,
    change::{Change, Measured},
};
use crate::{
    event::Event,
    kind::Direction,
    report::{Stats, Subject, Tables},
};

/// A row of either table, or of both.
#[derive(Clone, Debug, Serialize)]
pub struct RowDiff {
    /// Subject of the row; for an exit reason: kind `reason`, the exit code and its name.
    #[serde(flatten)]
    pub subject: Subject,
    /// Whether the vCPU waits in these exits: their time is no cost.
    pub waits: bool,
    /// Exits per second; events if KVM reports no exits.
    pub exits: Change,
    /// CPUs kept busy by these exits; null for waiting, and unless known for both.
    pub cores: Option<Change>,
    /// Figures before; null if there was no such row.
    pub before: Option<Stats>,
    /// Figures after; null if there is no such row.
    pub after: Option<Stats>,
}

/// Identity of a row: kind, number, direction.
type RowKey = (Kind, Option<u64>, Option<Direction>);

/// A row of a table of either type.
struct TableRow<'a> {
    subject: Subject,
    waits: bool,
    stats: &'a Stats,
}

/// Rows of both tables of an event, largest change first.
pub(super) fn rows(
    event: Event,
    (before, before_side): (&Tables, &Side),
    (after, after_side): (&Tables, &Side),
) -> Vec<RowDiff> {
    let (mut olds, news) = (by_key(event, before), by_key(event, after));
    let mut both: Vec<(Option<TableRow<'_>>, Option<TableRow<'_>>)> =
        news.into_iter().map(|(key, new)| (olds.remove(&key), Some(new))).collect();
    both.extend(olds.into_values().map(|old| (Some(old), None)));
    let mut rows: Vec<RowDiff> = both
        .into_iter()
        .filter_map(|(old, new)| {
            let (old_stats, new_stats) =
                (old.as_ref().map(|one| one.stats), new.as_ref().map(|one| one.stats));
            let rate = |stats: Option<&Stats>, side| {
                Measured::rate(stats.map_or(0, |stats| stats.samples), side)
            };
            let cores = |waits: bool| {
                let old = Measured::cores(old_stats, before_side).filter(|_| !waits)?;
                Some(Change::between(old, Measured::cores(new_stats, after_side)?))
            };
            // The later name of a device is the current one.
            let TableRow { subject, waits, .. } = new.or(old)?;
            Some(RowDiff {
                subject,
                waits,
                exits: Change::between(rate(old_stats, before_side), rate(new_stats, after_side)),
                cores: cores(waits),
                before: old_stats.cloned(),
                after: new_stats.cloned(),
            })
        })
        .collect();
    rows.sort_by(|one, other| {
        other.weight().partial_cmp(&one.weight()).unwrap_or(std::cmp::Ordering::Equal)
    });
    rows
}

fn by_key(event: Event, tables: &Tables) -> BTreeMap<RowKey, TableRow<'_>> {
    let exits = tables.exits.iter().filter(|_| event == Event::Vmexit).map(|exit| TableRow {
        subject: Subject {
            kind: Kind::Reason,
            number: exit.code.map(u64::from),
            direction: None,
            name: Some(exit.reason.clone()),
            device: None,
        },
        waits: exit.waits,
        stats: &exit.stats,
    });
    let details =
        tables.details.get(&event).into_iter().flatten().filter(|row| row.stats.samples > 0);
    let details = details.map(|row| TableRow {
        subject: row.subject.clone(),
        waits: false,
        stats: &row.stats,
    });
    let key = |subject: &Subject| (subject.kind, subject.number, subject.direction);
    exits.chain(details).map(|row| (key(&row.subject), row)).collect()
}

impl RowDiff {
    /// Whether the row changed by more than noise.
    pub fn is_real(&self) -> bool {
        self.exits.is_real() || self.cores.as_ref().is_some_and(Change::is_real)
    }

    /// Sort key: real changes before noise, then by time, then by exits.
    fn weight(&self) -> (bool, f64, f64) {
        let cores = self.cores.as_ref().map_or(0.0, |cores| cores.difference.abs());
        (self.is_real(), cores, self.exits.difference.abs())
    }
}
