//! Giving up a row of details that nothing comes for any more, while other keys find none: a guest that
//! boots asks for hundreds of things once. What was booked on the row goes to its kind's in [`OTHERS`], so
//! the sum over a kind is what it was.

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

/// Looks for a row to give up after so many misses, the last one that of `key`: any near its home; or one
/// of its kind's, where that has its quota, in that part of the table whose turn it is.
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

/// Hands everything over that was booked on the row with this index in the table of details.
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

/// The shortest and longest duration, which are both 0 until the first.
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

#[inline(always)]
fn move_histogram(row: *mut StatsRow, other: *mut StatsRow) {
    for slice in 0..SLICES {
        for bucket in 0..SLICE_BUCKETS {
            let offset = slice * size_of::<RowSlices>() + bucket * size_of::<u32>();
            // SAFETY: both within their rows' book.
            unsafe {
                let from = row.byte_add(offset).byte_add(HISTOGRAM_OFFSET).cast::<u32>();
                let to = other.byte_add(offset).byte_add(HISTOGRAM_OFFSET).cast::<u32>();
                to.write_volatile(to.read_volatile().wrapping_add(from.read_volatile()));
                from.write_volatile(0);
            }
        }
    }
}
