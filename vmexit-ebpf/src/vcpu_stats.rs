//! Adding up on a row of a book. The caller has marked the book as being written.

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

/// How long an exit took, and where the bucket of that is: found once for the rows that it goes to.
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
            // What seems to be longest of all has ended before it began.
            let (ns, bucket) = if (ns as i64) < 0 { (0, 0) } else { (ns, LAST_BUCKET) };
            return Self { ns, bucket: bucket_offset(bucket) };
        };
        let mut bucket = bucket as usize;
        if bucket > bucket_offset(LAST_BUCKET) {
            // Never, but the verifier looks into no table.
            cold_path();
            bucket = 0;
        }
        Self { ns, bucket }
    }
}

/// Where the buckets are: [`bucket_offset`].
static BUCKET_OFFSETS: BucketTables = {
    let mut offsets = [[0; 256]; TABLES];
    let mut at = 0;
    while at < TABLES * 256 {
        offsets[at / 256][at % 256] = bucket_offset(bucket_at(at / 256, at % 256)) as u32;
        at += 1;
    }
    offsets
};

/// Nanoseconds. `end` may lie before `start` where a CPU's clock is a little behind another's.
#[inline(always)]
pub fn elapsed(start: u64, end: u64) -> u64 {
    let ns = end.wrapping_sub(start);
    if (ns as i64) < 0 { 0 } else { ns }
}

/// The row of an exit reason: at its home but for a few. Codes are small numbers, few of them the same in
/// their last six bits.
#[inline(always)]
pub fn reason_row(stats: *mut VcpuCounters, key: Key) -> *mut StatsRow {
    let row = in_range(stats, REASONS, key.0 as usize);
    if load!(row, key) == key.0 { row } else { search_reason(stats, key.0) }
}

/// The row of a detail, likewise.
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

/// Counts an event that no exit could be found for.
#[inline(always)]
pub fn count_unmatched(row: *mut StatsRow) {
    add!(row, unmatched, 1);
}

/// Counts accesses to a detail beyond one for each exit and stray event. Apart from the programs, for few
/// have them.
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

/// Leaves an exit untimed, where others are timed.
#[inline(always)]
pub fn leave_untimed(row: *mut StatsRow) {
    add!(row, untimed, 1);
}

/// Adds the part of an exit's time that was userspace's.
#[inline(always)]
pub fn time_userspace(row: *mut StatsRow, ns: u64) {
    add!(row, user_ns, ns);
}

/// Adds the time of an exit that was counted.
#[inline(always)]
pub fn time_exit(row: *mut StatsRow, duration: &ExitDuration) {
    let ns = duration.ns;
    // Both are 0 until the first.
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
    // SAFETY: within the row's book.
    unsafe {
        let bucket = row.byte_add(duration.bucket).byte_add(HISTOGRAM_OFFSET).cast::<u32>();
        bucket.write_volatile(bucket.read_volatile().wrapping_add(1));
    }
}

/// Apart from the programs, which have nearly all rows at their homes. These rows are never given up, so a
/// free one ends the search.
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

/// The row of a `key` that is not at its home, taken now if it is new; that of all others where there is no
/// room near its home, or its kind has its quota. Apart as [`search_reason`].
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

/// The row for what found none of its own.
#[inline(always)]
pub fn other_row(stats: *mut VcpuCounters, key: Key) -> *mut StatsRow {
    let other = OTHERS.row(key.kind_number());
    let row = at(stats, 0, other);
    if load!(row, key) == Key::NONE.0 {
        take(stats, row, key.other(), other);
    }
    row
}

/// How many rows of details a key's kind may have.
#[inline(always)]
pub fn quota(key: Key) -> u8 {
    // SAFETY: a kind's number is below KINDS.
    unsafe { (&raw const QUOTA).cast::<u8>().add(key.kind_number()).read_volatile() }
}

#[inline(always)]
fn take(stats: *mut VcpuCounters, row: *mut StatsRow, key: Key, index: usize) {
    store!(row, key, key.0);
    store!(stats, used[index / 64], load!(stats, used[index / 64]) | 1 << (index % 64));
}

/// A row by its index in the table, of which only the bits that the table has are taken.
#[inline(always)]
fn in_range(stats: *mut VcpuCounters, table: RowRange, index: usize) -> *mut StatsRow {
    at(stats, table.first, index & ((1 << table.bits) - 1))
}

/// A row of details by its index among them.
#[inline(always)]
pub fn detail_at(stats: *mut VcpuCounters, index: usize) -> *mut StatsRow {
    in_range(stats, DETAILS, index)
}

/// Its tenure, likewise.
#[inline(always)]
pub fn generation_at(stats: *mut VcpuCounters, index: usize) -> *mut RowGeneration {
    let index = index & ((1 << DETAILS.bits) - 1);
    // SAFETY: within the book that a look-up has returned.
    unsafe {
        stats
            .byte_add(index * size_of::<RowGeneration>())
            .byte_add(offset_of!(VcpuCounters, generations))
            .cast()
    }
}

/// The index first and the other offset after it, which then becomes part of each access.
#[inline(always)]
fn at(stats: *mut VcpuCounters, first: usize, index: usize) -> *mut StatsRow {
    let rows = offset_of!(VcpuCounters, rows) + first * size_of::<StatsRow>();
    // SAFETY: within the book that a look-up has returned: callers pass the index of a row.
    unsafe { stats.byte_add(index * size_of::<StatsRow>()).byte_add(rows).cast() }
}
