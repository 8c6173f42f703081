//! Adding up on a row of a table. The caller holds the vCPU's `books_seq` odd meanwhile.

use vmexit_common::{
    book::{KEYED_ROWS, OTHER_ROW, PROBES, ROW_BITS, Row, Table},
    histogram::{BUCKETS, bucket_of},
    key::Key,
};

use crate::access::{add, load, store};

/// Counts an exit on the row of `key`, and returns the row; with its time, `ns` nanoseconds, if it was
/// timed.
#[inline(always)]
pub fn add_up(table: *mut Table, key: Key, ns: Option<u64>) -> *mut Row {
    let index = index_of(table, key);
    let row = row_at(table, index);
    add!(row, exits, 1);
    if let Some(ns) = ns {
        add_time(table, index, row, ns);
    }
    row
}

#[inline(always)]
fn add_time(table: *mut Table, index: usize, row: *mut Row, ns: u64) {
    // The longest is 0 until the first: no exit takes no time.
    let longest = load!(row, max_ns);
    if longest == 0 || ns < load!(row, min_ns) {
        store!(row, min_ns, ns);
    }
    if ns > longest {
        store!(row, max_ns, ns);
    }
    add!(row, total_ns, ns);
    // SAFETY: `index` is below ROWS and the mask keeps the bucket below BUCKETS.
    unsafe {
        let histogram = (&raw mut (*table).histograms).cast::<[u32; BUCKETS]>().add(index);
        let bucket = histogram.cast::<u32>().add(bucket_of(ns) & (BUCKETS - 1));
        bucket.write_volatile(bucket.read_volatile().wrapping_add(1));
    }
}

/// Counts an event that no exit could be found for.
#[inline(always)]
pub fn count_stray(table: *mut Table, key: Key, accesses: u32, sizes: u32) {
    let row = row_at(table, index_of(table, key));
    add!(row, stray, 1);
    note_accesses(row, accesses, sizes);
}

/// Counts accesses and their sizes on a row.
#[inline(always)]
pub fn note_accesses(row: *mut Row, accesses: u32, sizes: u32) {
    add!(row, accesses, u64::from(accesses));
    store!(row, sizes, load!(row, sizes) | sizes);
}

/// The row of `key`, taken now if it is new; [`OTHER_ROW`] where there is no room near its home.
/// Rows are never given back while the book is in use, so a free one ends the search.
#[inline(always)]
fn index_of(table: *mut Table, key: Key) -> usize {
    let home = key.home(ROW_BITS);
    for probe in 0..PROBES {
        let index = (home + probe) & (KEYED_ROWS - 1);
        let row = row_at(table, index);
        let owner = load!(row, key);
        if owner == key.0 {
            return index;
        }
        if owner == Key::NONE.0 {
            store!(row, key, key.0);
            return index;
        }
    }
    store!(row_at(table, OTHER_ROW), key, Key::OTHER.0);
    OTHER_ROW
}

#[inline(always)]
fn row_at(table: *mut Table, index: usize) -> *mut Row {
    // SAFETY: callers pass an index below ROWS.
    unsafe { (&raw mut (*table).rows).cast::<Row>().add(index) }
}
