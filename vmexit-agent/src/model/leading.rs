//! What a VM's exits were mostly for, found without tables: for lists of many VMs.

use std::collections::BTreeMap;

use serde::Serialize;
use vmexit_common::key::{Key, Kind};

use super::{
    Subject, Total,
    build::{Frame, Rows, code_of, reason_name, row_waits},
    stats::{percent, total_ns},
    subject::Naming,
};
use crate::{device::Map, snapshot::RowInterval};

/// What took most of a VM's handled time; where no time is known, what came most often.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leading {
    /// The exit reason, of those that are no waiting; null if there was none.
    pub reason: Option<LeadingReason>,
    /// What exits were for; null if there was nothing. Why they went to userspace is left out: that goes
    /// with all that userspace answers.
    pub detail: Option<LeadingDetail>,
}

/// The exit reason ahead of all others.
#[derive(Clone, Debug, Serialize)]
pub struct LeadingReason {
    /// Name as Linux prints it.
    pub reason: String,
    /// Its share, percent: of the handled time, or of exits that do not wait.
    pub share_percent: f64,
}

/// What exits were for more than for anything else.
#[derive(Clone, Debug, Serialize)]
pub struct LeadingDetail {
    /// Which thing.
    #[serde(flatten)]
    pub subject: Subject,
    /// Its share, percent: of the handled time, or of all that exits were for.
    pub share_percent: f64,
}

impl Leading {
    pub(super) fn of(rows: &Rows, total: &Total, map: &Map, frame: Frame<'_>) -> Self {
        let timed = total.handled_ns > 0;
        let weight = |row: &RowInterval| {
            if timed { total_ns(row) } else { row.exits + row.stray }
        };
        let reasons = rows.reasons.iter().filter(|row| !row_waits(row, frame.vendor));
        let details = rows.details.iter();
        let details = details.filter(|row| row.key.table() != Some(Kind::Userspace));
        let (reason, detail) = (
            heaviest(reasons.map(|row| (row.key, weight(row)))),
            heaviest(details.map(|row| (row.key.of_any_size(), weight(row)))),
        );
        let share = |heaviest: &Heaviest| {
            percent(heaviest.weight, if timed { total.handled_ns } else { heaviest.all })
        };
        Self {
            reason: reason.map(|heaviest| LeadingReason {
                share_percent: share(&heaviest),
                reason: reason_name(code_of(heaviest.key), frame),
            }),
            detail: detail.map(|heaviest| LeadingDetail {
                share_percent: share(&heaviest),
                subject: Subject::of(heaviest.key, Naming { vendor: frame.vendor, map }),
            }),
        }
    }
}

struct Heaviest {
    key: Key,
    weight: u64,
    /// The weight of all keys together.
    all: u64,
}

fn heaviest(rows: impl Iterator<Item = (Key, u64)>) -> Option<Heaviest> {
    let mut by_key: BTreeMap<Key, u64> = BTreeMap::new();
    let mut all = 0;
    for (key, weight) in rows {
        *by_key.entry(key).or_default() += weight;
        all += weight;
    }
    let (key, weight) = by_key.into_iter().max_by_key(|&(_, weight)| weight)?;
    (weight > 0).then_some(Heaviest { key, weight, all })
}
