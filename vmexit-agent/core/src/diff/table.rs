//! The rows of two tables beside each other.

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

/// A row of both tables, or of one.
#[derive(Clone, Debug, Serialize)]
pub struct RowDiff {
    /// What it is of; of kind `reason` for an exit reason, by code and name.
    #[serde(flatten)]
    pub subject: Subject,
    /// The vCPU waits in it: its time is not cost.
    pub waits: bool,
    /// Exits per second; events where KVM reports no exits.
    pub exits: Change,
    /// CPUs busy with them; null for waiting, and where that is not known of both.
    pub cores: Option<Change>,
    /// Its figures then; null where there were none.
    pub before: Option<Stats>,
    /// Its figures now.
    pub after: Option<Stats>,
}

/// Which row: kind, number, whether written.
type RowKey = (Kind, Option<u64>, Option<Direction>);

struct One<'a> {
    subject: Subject,
    waits: bool,
    stats: &'a Stats,
}

/// What was in the tables of an event, those rows that changed most first.
pub(super) fn rows(
    event: Event,
    (before, before_side): (&Tables, &Side),
    (after, after_side): (&Tables, &Side),
) -> Vec<RowDiff> {
    let (mut olds, news) = (by_id(event, before), by_id(event, after));
    let mut both: Vec<(Option<One<'_>>, Option<One<'_>>)> =
        news.into_iter().map(|(id, new)| (olds.remove(&id), Some(new))).collect();
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
            // The devices may have other names by now.
            let One { subject, waits, .. } = new.or(old)?;
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

fn by_id(event: Event, tables: &Tables) -> BTreeMap<RowKey, One<'_>> {
    let exits = tables.exits.iter().filter(|_| event == Event::Vmexit).map(|exit| One {
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
    let details =
        details.map(|row| One { subject: row.subject.clone(), waits: false, stats: &row.stats });
    let id = |subject: &Subject| (subject.kind, subject.number, subject.direction);
    exits.chain(details).map(|one| (id(&one.subject), one)).collect()
}

impl RowDiff {
    /// Whether it changed by more than noise.
    pub fn is_real(&self) -> bool {
        self.exits.is_real() || self.cores.as_ref().is_some_and(Change::is_real)
    }

    /// What changed goes before what did not, time before exits, much before little.
    fn weight(&self) -> (bool, f64, f64) {
        let cores = self.cores.as_ref().map_or(0.0, |cores| cores.difference.abs());
        (self.is_real(), cores, self.exits.difference.abs())
    }
}
