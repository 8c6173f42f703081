//! Eviction of idle rows of details while other keys find no row. A booting guest, for example, accesses
//! hundreds of ports and registers once. The counters of an evicted row move to the `other` row of its
//! kind (in [`OTHERS`]), so the sum over the kind stays the same.

use vmexit_common::{
    key::Key,
    stats::{
        DETAILS, HISTOGRAM_OFFSET, MISSES_PER_SCAN, OTHERS, PROBES, RowSlices, SLICE_BUCKETS,
        SLICES, StatsRow, VcpuCounters,
    },
};

use crate::{
    access::{add, load, store},
    vcpu_stats::{detail_at, generation_at, other_row, quota},
};

/// Idle scan: evicts the first of [`PROBES`] rows that has counted nothing since its previous scan.
///
/// `key` is the key of the latest miss, and `misses` the number of all. The scan covers the probe
/// sequence of `key` and rows of any kind. If the kind of `key` has its quota, the scan covers the next
/// part of the table instead, in turn, and rows of that kind only.
#[inline(never)]
pub fn scan(stats: *mut VcpuCounters, key: u64, misses: u64) {
    let key = Key(key);
    let kind = key.kind_number();
    let has_quota = load!(stats, rows_used_by_kind[kind]) >= quota(key);
    let first = if has_quota {
        (misses / MISSES_PER_SCAN) as usize * PROBES
    } else {
        key.home(DETAILS.bits)
    };
    for probe in 0..PROBES {
        let index = first + probe;
        let (row, generation) = (detail_at(stats, index), generation_at(stats, index));
        let owner = Key(load!(row, key));
        if owner == Key::NONE || has_quota && owner.kind_number() != kind {
            continue;
        }
        let events = (load!(row, exits) + load!(row, unmatched)) as u32;
        if load!(generation, events_at_scan) == events {
            evict(stats, index);
            return;
        }
        store!(generation, events_at_scan, events);
    }
}

/// Evicts the row with this index among the rows of details: moves its counters to the `other` row, frees
/// it and increments its generation.
#[inline(always)]
fn evict(stats: *mut VcpuCounters, index: usize) {
    let (row, generation) = (detail_at(stats, index), generation_at(stats, index));
    let key = Key(load!(row, key));
    let other = other_row(stats, key);
    move_extremes(row, other);
    macro_rules! move_counters {
        ($($field:ident),*) => {$({
            add!(other, $field, load!(row, $field));
            store!(row, $field, 0);
        })*};
    }
    move_counters!(exits, unmatched, untimed, total_ns, user_ns);
    move_histogram(row, other);
    let (index, others, kind) =
        (DETAILS.row(index), OTHERS.row(key.kind_number()), key.kind_number());
    add!(stats, extra_accesses[others], load!(stats, extra_accesses[index]));
    store!(stats, extra_accesses[index], 0);
    store!(generation, events_at_scan, 0);
    store!(generation, generation, load!(generation, generation).wrapping_add(1));
    store!(stats, rows_used_by_kind[kind], load!(stats, rows_used_by_kind[kind]).wrapping_sub(1));
    store!(stats, used[index / 64], load!(stats, used[index / 64]) & !(1 << (index % 64)));
    store!(row, key, Key::NONE.0);
    add!(stats, evictions, 1);
}

/// Merges the shortest and the longest duration, which are both 0 before the first timed exit.
#[inline(always)]
fn move_extremes(row: *mut StatsRow, other: *mut StatsRow) {
    let (shortest, longest) = (load!(row, min_ns), load!(row, max_ns));
    if longest == 0 {
        return;
    }
    if load!(other, max_ns) == 0 || shortest < load!(other, min_ns) {
        store!(other, min_ns, shortest);
    }
    if longest > load!(other, max_ns) {
        store!(other, max_ns, longest);
    }
    store!(row, min_ns, 0);
    store!(row, max_ns, 0);
}

/// Adds the row's histogram to that of the `other` row, and clears it.
#[inline(always)]
fn move_histogram(row: *mut StatsRow, other: *mut StatsRow) {
    for slice in 0..SLICES {
        for bucket in 0..SLICE_BUCKETS {
            let offset = slice * size_of::<RowSlices>() + bucket * size_of::<u32>();
            // SAFETY: both within the stats block of their rows.
            unsafe {
                let from = row.byte_add(offset).byte_add(HISTOGRAM_OFFSET).cast::<u32>();
                let to = other.byte_add(offset).byte_add(HISTOGRAM_OFFSET).cast::<u32>();
                to.write_volatile(to.read_volatile().wrapping_add(from.read_volatile()));
                from.write_volatile(0);
            }
        }
    }
}
