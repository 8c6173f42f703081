//! Adding up on a row of a book. The caller has marked the book as being written.

use core::mem::offset_of;

use vmexit_common::{
    book::{
        Counts, DETAILS, KEYED_ROWS, OTHER_ROW, PROBES, REASONS, ROW_BITS, Row, TO_DURATIONS,
        Table, bucket_place,
    },
    histogram::bucket_of,
    key::Key,
};

use crate::access::{add, load, store};

/// How long an exit took, and where the bucket of that is: found once for the two rows that it goes to.
pub struct Duration {
    ns: u64,
    place: usize,
}

impl Duration {
    /// `end` may lie before `start` where a CPU's clock is a little behind another's.
    #[inline(always)]
    pub fn between(start: u64, end: u64) -> Self {
        let ns = end.wrapping_sub(start);
        let ns = if (ns as i64) < 0 { 0 } else { ns };
        Self { ns, place: bucket_place(bucket_of(ns)) }
    }
}

/// The row of an exit reason. Codes are small numbers, few of them the same in their last six bits.
#[inline(always)]
pub fn reason_row(book: *mut Counts, key: Key) -> *mut Row {
    row_of_key(book, REASONS, key, key.0 as usize)
}

/// The row of a detail.
#[inline(always)]
pub fn detail_row(book: *mut Counts, key: Key) -> *mut Row {
    row_of_key(book, DETAILS, key, key.home(ROW_BITS))
}

/// Counts an exit.
#[inline(always)]
pub fn count_exit(row: *mut Row) {
    add!(row, exits, 1);
}

/// Counts an event that no exit could be found for.
#[inline(always)]
pub fn count_stray(row: *mut Row) {
    add!(row, stray, 1);
}

/// Counts accesses beyond one for each exit and stray event.
#[inline(always)]
pub fn count_more(row: *mut Row, accesses: u64) {
    add!(row, more, accesses);
}

/// Leaves an exit untimed, where others are timed.
#[inline(always)]
pub fn leave_untimed(row: *mut Row) {
    add!(row, untimed, 1);
}

/// Adds the time of an exit that was counted.
#[inline(always)]
pub fn time_exit(row: *mut Row, duration: &Duration) {
    let ns = duration.ns;
    // Beyond the shortest or the longest, in one comparison; both are 0 until the first.
    let (shortest, longest) = (load!(row, min_ns), load!(row, max_ns));
    if ns.wrapping_sub(shortest) > longest - shortest {
        if longest == 0 || ns < shortest {
            store!(row, min_ns, ns);
        }
        if ns > longest {
            store!(row, max_ns, ns);
        }
    }
    add!(row, total_ns, ns);
    // SAFETY: within the row's book.
    unsafe {
        let bucket = row.byte_add(duration.place).byte_add(TO_DURATIONS).cast::<u32>();
        bucket.write_volatile(bucket.read_volatile().wrapping_add(1));
    }
}

/// The row of `key` in a table: at its home but for a few.
#[inline(always)]
fn row_of_key(book: *mut Counts, table: usize, key: Key, home: usize) -> *mut Row {
    let row = at(book, table, home & (KEYED_ROWS - 1));
    if load!(row, key) == key.0 { row } else { search(book, table, key, home) }
}

/// The row of a `key` that is not at its home, taken now if it is new; [`OTHER_ROW`] where there is no
/// room near its home. Rows are never given back while the book is in use, so a free one ends the
/// search.
#[inline(always)]
fn search(book: *mut Counts, table: usize, key: Key, home: usize) -> *mut Row {
    for probe in 0..PROBES {
        let index = (home + probe) & (KEYED_ROWS - 1);
        let row = at(book, table, index);
        let owner = load!(row, key);
        if owner == key.0 {
            return row;
        }
        if owner == Key::NONE.0 {
            store!(row, key, key.0);
            store!(book, used[table], load!(book, used[table]) | 1 << index);
            return row;
        }
    }
    let other = at(book, table, OTHER_ROW);
    store!(other, key, Key::OTHER.0);
    other
}

/// The index first and the table's offset after it, which then becomes part of each access.
#[inline(always)]
fn at(book: *mut Counts, table: usize, index: usize) -> *mut Row {
    let table = offset_of!(Counts, tables) + table * size_of::<Table>();
    // SAFETY: within the book that a look-up has returned: callers pass an index below ROWS.
    unsafe { book.byte_add(index * size_of::<Row>()).byte_add(table).cast() }
}
