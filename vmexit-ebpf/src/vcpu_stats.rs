//! Counting on a row of a stats block. The caller has set the block's `seq_begin` already.

use core::{hint::cold_path, mem::offset_of};

use vmexit_common::{
    histogram::{BucketTables, LAST_BUCKET, TABLES, bucket_at, look_up},
    key::Key,
    stats::{
        DETAILS, HISTOGRAM_OFFSET, MISSES_PER_SCAN, OTHERS, PROBES, QUOTA, REASONS, RowGeneration,
        RowRange, StatsRow, VcpuCounters, bucket_offset,
    },
};

use crate::{
    access::{add, load, store},
    evict,
};

/// Duration of an exit and the offset of its bucket, computed once for all rows that it is counted on.
pub struct ExitDuration {
    ns: u64,
    bucket: usize,
}

impl ExitDuration {
    #[inline(always)]
    pub fn between(start: u64, end: u64) -> Self {
        let ns = end.wrapping_sub(start);
        let Some(bucket) = look_up(&BUCKET_OFFSETS, ns) else {
            cold_path();
            // A negative difference wraps to a huge one: the exit ended before it began.
            let (ns, bucket) = if (ns as i64) < 0 { (0, 0) } else { (ns, LAST_BUCKET) };
            return Self { ns, bucket: bucket_offset(bucket) };
        };
        let mut bucket = bucket as usize;
        if bucket > bucket_offset(LAST_BUCKET) {
            // Never taken: a bound for the verifier, which does not know the table's values.
            cold_path();
            bucket = 0;
        }
        Self { ns, bucket }
    }
}

/// Lookup tables of [`bucket_offset`].
static BUCKET_OFFSETS: BucketTables = {
    let mut offsets = [[0; 256]; TABLES];
    let mut at = 0;
    while at < TABLES * 256 {
        offsets[at / 256][at % 256] = bucket_offset(bucket_at(at / 256, at % 256)) as u32;
        at += 1;
    }
    offsets
};

/// Time from `start` to `end`, nanoseconds. 0 if `end` is earlier, since one CPU's clock can lag a little
/// behind another's.
#[inline(always)]
pub fn elapsed(start: u64, end: u64) -> u64 {
    let ns = end.wrapping_sub(start);
    if (ns as i64) < 0 { 0 } else { ns }
}

/// Row of an exit reason. Most are at their home: exit codes are small numbers, and few of them agree in
/// their last six bits.
#[inline(always)]
pub fn reason_row(stats: *mut VcpuCounters, key: Key) -> *mut StatsRow {
    let row = in_range(stats, REASONS, key.0 as usize);
    if load!(row, key) == key.0 { row } else { search_reason(stats, key.0) }
}

/// Row of a detail.
#[inline(always)]
pub fn detail_row(stats: *mut VcpuCounters, key: Key) -> *mut StatsRow {
    let row = in_range(stats, DETAILS, key.home(DETAILS.bits));
    if load!(row, key) == key.0 { row } else { search_detail(stats, key.0) }
}

/// Counts an exit.
#[inline(always)]
pub fn count_exit(row: *mut StatsRow) {
    add!(row, exits, 1);
}

/// Counts an unmatched event.
#[inline(always)]
pub fn count_unmatched(row: *mut StatsRow) {
    add!(row, unmatched, 1);
}

/// Counts extra accesses to a detail: those beyond one for each exit and unmatched event. Not inlined,
/// since extra accesses are rare.
#[inline(never)]
pub fn count_extra_accesses(stats: *mut VcpuCounters, key: u64, accesses: u64) {
    let key = Key(key);
    detail_row(stats, key);
    let mut index = OTHERS.row(key.kind_number());
    for probe in 0..PROBES {
        let probed = DETAILS.row(key.home(DETAILS.bits) + probe);
        if load!(at(stats, 0, probed), key) == key.0 {
            index = probed;
            break;
        }
    }
    add!(stats, extra_accesses[index], accesses);
}

/// Counts an exit that sampling left untimed.
#[inline(always)]
pub fn leave_untimed(row: *mut StatsRow) {
    add!(row, untimed, 1);
}

/// Adds the part of an exit's duration in which userspace had the vCPU.
#[inline(always)]
pub fn time_userspace(row: *mut StatsRow, ns: u64) {
    add!(row, user_ns, ns);
}

/// Adds the duration of an exit that is counted already.
#[inline(always)]
pub fn time_exit(row: *mut StatsRow, duration: &ExitDuration) {
    let ns = duration.ns;
    // Both are 0 before the first timed exit.
    let longest = load!(row, max_ns);
    if ns > longest {
        cold_path();
        store!(row, max_ns, ns);
        if longest == 0 {
            store!(row, min_ns, ns);
        }
    }
    if ns < load!(row, min_ns) {
        cold_path();
        store!(row, min_ns, ns);
    }
    add!(row, total_ns, ns);
    // SAFETY: within the row's stats block.
    unsafe {
        let bucket = row.byte_add(duration.bucket).byte_add(HISTOGRAM_OFFSET).cast::<u32>();
        bucket.write_volatile(bucket.read_volatile().wrapping_add(1));
    }
}

/// Row of an exit reason that is not at its home, claimed if the reason is new. Not inlined, since nearly
/// all reasons are at their home. These rows are never evicted, so a free one ends the search.
#[inline(never)]
fn search_reason(stats: *mut VcpuCounters, key: u64) -> *mut StatsRow {
    for probe in 0..PROBES {
        let index = key as usize + probe;
        let row = in_range(stats, REASONS, index);
        let owner = load!(row, key);
        if owner == Key::NONE.0 {
            take(stats, row, Key(key), REASONS.row(index));
            return row;
        }
        if owner == key {
            return row;
        }
    }
    other_row(stats, Key(key))
}

/// Row of a detail that is not at its home, claimed if the key is new. The kind's `other` row if the
/// probe sequence is full or the kind has its quota. Not inlined, as [`search_reason`].
#[inline(never)]
fn search_detail(stats: *mut VcpuCounters, key: u64) -> *mut StatsRow {
    let key = Key(key);
    let home = key.home(DETAILS.bits);
    for probe in 0..PROBES {
        let row = in_range(stats, DETAILS, home + probe);
        if load!(row, key) == key.0 {
            return row;
        }
    }
    let kind = key.kind_number();
    let rows_used_by_kind = load!(stats, rows_used_by_kind[kind]);
    if rows_used_by_kind < quota(key) {
        for probe in 0..PROBES {
            let row = in_range(stats, DETAILS, home + probe);
            if load!(row, key) == Key::NONE.0 {
                store!(stats, rows_used_by_kind[kind], rows_used_by_kind + 1);
                take(stats, row, key, DETAILS.row(home + probe));
                return row;
            }
        }
    }
    let misses = load!(stats, misses) + 1;
    store!(stats, misses, misses);
    if misses.is_multiple_of(MISSES_PER_SCAN) {
        evict::scan(stats, key.0, misses);
    }
    other_row(stats, key)
}

/// `other` row of a key's kind.
#[inline(always)]
pub fn other_row(stats: *mut VcpuCounters, key: Key) -> *mut StatsRow {
    let other = OTHERS.row(key.kind_number());
    let row = at(stats, 0, other);
    if load!(row, key) == Key::NONE.0 {
        take(stats, row, key.other(), other);
    }
    row
}

/// Quota of rows of details of a key's kind.
#[inline(always)]
pub fn quota(key: Key) -> u8 {
    // SAFETY: the number of a kind is below KINDS.
    unsafe { (&raw const QUOTA).cast::<u8>().add(key.kind_number()).read_volatile() }
}

/// Claims a free row for a key.
#[inline(always)]
fn take(stats: *mut VcpuCounters, row: *mut StatsRow, key: Key, index: usize) {
    store!(row, key, key.0);
    store!(stats, used[index / 64], load!(stats, used[index / 64]) | 1 << (index % 64));
}

/// Row of a range by its index, wrapped around at the range's end.
#[inline(always)]
fn in_range(stats: *mut VcpuCounters, table: RowRange, index: usize) -> *mut StatsRow {
    at(stats, table.first, index & ((1 << table.bits) - 1))
}

/// Row of details by its index, wrapped around at the range's end.
#[inline(always)]
pub fn detail_at(stats: *mut VcpuCounters, index: usize) -> *mut StatsRow {
    in_range(stats, DETAILS, index)
}

/// Generation of the same row.
#[inline(always)]
pub fn generation_at(stats: *mut VcpuCounters, index: usize) -> *mut RowGeneration {
    let index = index & ((1 << DETAILS.bits) - 1);
    // SAFETY: within the stats block that a lookup returned.
    unsafe {
        stats
            .byte_add(index * size_of::<RowGeneration>())
            .byte_add(offset_of!(VcpuCounters, generations))
            .cast()
    }
}

/// Row by its index from `first`. The index is added first and the constant offset after it, which then
/// becomes part of each load and store.
#[inline(always)]
fn at(stats: *mut VcpuCounters, first: usize, index: usize) -> *mut StatsRow {
    let rows = offset_of!(VcpuCounters, rows) + first * size_of::<StatsRow>();
    // SAFETY: within the stats block that a lookup returned: callers pass the index of a row.
    unsafe { stats.byte_add(index * size_of::<StatsRow>()).byte_add(rows).cast() }
}
