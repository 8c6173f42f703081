//! Adding up on a row of a book. The caller has marked the book as being written.

use core::mem::offset_of;

use vmexit_common::{
    book::{Book, KEYED_ROWS, Line, OTHER_ROW, PROBES, ROW_BITS, Row},
    histogram::{BUCKETS, bucket_of},
    key::Key,
};

use crate::access::{add, load, store};

/// Where in a book a table is, and the bits that say which of its rows are in use.
#[derive(Clone, Copy)]
struct Place {
    table: usize,
    used: usize,
}

const REASONS: Place =
    Place { table: offset_of!(Book, reasons), used: offset_of!(Book, used_reasons) };
const DETAILS: Place =
    Place { table: offset_of!(Book, details), used: offset_of!(Book, used_details) };

/// How long an exit took, and the bucket of that: found once for the two rows that it goes to.
pub struct Duration {
    ns: u64,
    bucket: usize,
}

impl Duration {
    /// `end` may lie before `start` where a CPU's clock is a little behind another's.
    #[inline(always)]
    pub fn between(start: u64, end: u64) -> Self {
        let ns = end.wrapping_sub(start);
        let ns = if (ns as i64) < 0 { 0 } else { ns };
        Self { ns, bucket: bucket_of(ns) & (BUCKETS - 1) }
    }
}

/// The line of an exit reason. Codes are small numbers, few of them the same in their last six bits.
#[inline(always)]
pub fn reason_line(book: *mut Book, key: Key) -> *mut Line {
    line_of(book, REASONS, key, key.0 as usize)
}

/// The line of a detail.
#[inline(always)]
pub fn detail_line(book: *mut Book, key: Key) -> *mut Line {
    line_of(book, DETAILS, key, key.home(ROW_BITS))
}

/// Counts an exit.
#[inline(always)]
pub fn count_exit(line: *mut Line) {
    add!(row_of(line), exits, 1);
}

/// Counts an event that no exit could be found for.
#[inline(always)]
pub fn count_stray(line: *mut Line) {
    add!(row_of(line), stray, 1);
}

/// Counts accesses beyond one for each exit and stray event.
#[inline(always)]
pub fn count_more(line: *mut Line, accesses: u64) {
    add!(row_of(line), more, accesses);
}

/// Adds the time of an exit that was counted.
#[inline(always)]
pub fn time_exit(line: *mut Line, duration: &Duration) {
    let (row, ns) = (row_of(line), duration.ns);
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
    // SAFETY: a bucket is below BUCKETS.
    unsafe {
        let bucket = (&raw mut (*line).histogram).cast::<u32>().add(duration.bucket);
        bucket.write_volatile(bucket.read_volatile().wrapping_add(1));
    }
}

/// The line of `key` in a table: at its home but for a few.
#[inline(always)]
fn line_of(book: *mut Book, place: Place, key: Key, home: usize) -> *mut Line {
    let line = at(book, place, home & (KEYED_ROWS - 1));
    if load!(row_of(line), key) == key.0 { line } else { search(book, place, key, home) }
}

/// The line of a `key` that is not at its home, taken now if it is new; [`OTHER_ROW`] where there is no
/// room near its home. Lines are never given back while the book is in use, so a free one ends the
/// search.
#[inline(always)]
fn search(book: *mut Book, place: Place, key: Key, home: usize) -> *mut Line {
    for probe in 0..PROBES {
        let index = (home + probe) & (KEYED_ROWS - 1);
        let line = at(book, place, index);
        let owner = load!(row_of(line), key);
        if owner == key.0 {
            return line;
        }
        if owner == Key::NONE.0 {
            store!(row_of(line), key, key.0);
            note_use(book, place, index);
            return line;
        }
    }
    let other = at(book, place, OTHER_ROW);
    store!(row_of(other), key, Key::OTHER.0);
    other
}

/// The index first and the table's offset after it, which then becomes part of each access.
#[inline(always)]
fn at(book: *mut Book, place: Place, index: usize) -> *mut Line {
    // SAFETY: within the book that a look-up has returned: callers pass an index below ROWS.
    unsafe { book.byte_add(index * size_of::<Line>()).byte_add(place.table).cast() }
}

#[inline(always)]
fn note_use(book: *mut Book, place: Place, index: usize) {
    // SAFETY: a field of the book.
    unsafe {
        let used = book.byte_add(place.used).cast::<u64>();
        used.write_volatile(used.read_volatile() | 1 << index);
    }
}

#[inline(always)]
fn row_of(line: *mut Line) -> *mut Row {
    // SAFETY: lines come from `at`.
    unsafe { &raw mut (*line).row }
}
