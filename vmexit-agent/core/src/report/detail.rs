//! Tables of details: the ports, addresses, registers and calls that exits are for.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Serialize;
use vmexit_common::key::Key;

use super::{
    stats::{Stats, Whole},
    subject::{Naming, Subject},
};
use crate::{counters::RowInterval, event::Event, kind};

/// One row: accesses to one subject in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// Subject of the accesses.
    #[serde(flatten)]
    pub subject: Subject,
    /// Access sizes, bytes; of ports and addresses only.
    pub sizes: Vec<u8>,
    /// Accesses; more than samples if an exit or a string instruction made several.
    pub accesses: u64,
    /// Accesses without an observed exit.
    pub unmatched: u64,
    /// Figures; times are those of whole exits.
    #[serde(flatten)]
    pub stats: Stats,
}

/// Tables of a VM or of one of its vCPUs, by event; rows are unsorted.
pub(super) fn tables(
    rows: &[RowInterval],
    whole: Whole,
    naming: Naming<'_>,
) -> BTreeMap<Event, Vec<Detail>> {
    let mut tables: BTreeMap<Event, Vec<(RowInterval, Vec<u8>)>> = BTreeMap::new();
    for (row, sizes) in merge_sizes(rows) {
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

/// Merges rows that differ only in access size, and lists their sizes; sorted by key.
fn merge_sizes(rows: &[RowInterval]) -> Vec<(RowInterval, Vec<u8>)> {
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
