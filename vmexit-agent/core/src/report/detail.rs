//! The tables by what exits are for: which there are, and what is in them.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Serialize;
use vmexit_common::key::Key;

use super::{
    stats::{Stats, Whole},
    subject::{Naming, Subject},
};
use crate::{counters::RowInterval, event::Event, kind};

/// One row: accesses to one thing in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// Access sizes seen, bytes; of ports and addresses.
    pub sizes: Vec<u8>,
    /// Accesses; more than samples where one exit or string instruction made several.
    pub accesses: u64,
    /// Accesses without a known exit.
    pub unmatched: u64,
    /// Figures; the time is that of the whole exit.
    #[serde(flatten)]
    pub stats: Stats,
}

/// The tables of a VM, or of one of its vCPUs: by event, rows in no order.
pub(super) fn tables(
    rows: &[RowInterval],
    whole: Whole,
    naming: Naming<'_>,
) -> BTreeMap<Event, Vec<Detail>> {
    let mut tables: BTreeMap<Event, Vec<(RowInterval, Vec<u8>)>> = BTreeMap::new();
    for (row, sizes) in of_all_sizes(rows) {
        if let Some(kind) =
            row.key.table().filter(|_| whole.samples_of(&row) > 0 || row.extra_accesses > 0)
        {
            tables.entry(kind::event(kind)).or_default().push((row, sizes));
        }
    }
    let details = |(event, rows): (Event, Vec<(RowInterval, Vec<u8>)>)| {
        let samples = rows.iter().map(|(row, _)| whole.samples_of(row)).sum();
        let whole = Whole { samples, ..whole };
        let rows = rows.into_iter().map(|(row, sizes)| detail(&row, sizes, &whole, naming));
        (event, rows.collect())
    };
    tables.into_iter().map(details).collect()
}

fn detail(row: &RowInterval, sizes: Vec<u8>, whole: &Whole, naming: Naming<'_>) -> Detail {
    Detail {
        subject: Subject::of(row.key, naming),
        sizes,
        accesses: row.exits + row.unmatched + row.extra_accesses,
        unmatched: row.unmatched,
        stats: Stats::of(row, whole),
    }
}

/// Rows that differ in the size of their accesses only, as one each, with the sizes; by key.
fn of_all_sizes(rows: &[RowInterval]) -> Vec<(RowInterval, Vec<u8>)> {
    let mut by_key: BTreeMap<Key, (RowInterval, Vec<u8>)> = BTreeMap::new();
    for row in rows {
        match by_key.entry(row.key.of_any_size()) {
            Entry::Vacant(entry) => {
                entry.insert((row.clone(), row.key.size().into_iter().collect()));
            }
            Entry::Occupied(mut entry) => {
                let (sum, sizes) = entry.get_mut();
                sum.merge(row);
                sizes.extend(row.key.size());
                sizes.sort_unstable();
            }
        }
    }
    by_key.into_values().collect()
}
