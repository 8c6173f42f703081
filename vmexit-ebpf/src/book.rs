//! Adding up on a row of a book. The caller has marked the book as being written.

use core::{hint::cold_path, mem::offset_of};

use vmexit_common::{
    book::{
        Counts, DETAILS, MISSES_PER_LOOK, OTHERS, PROBES, QUOTA, REASONS, Row, TO_DURATIONS, Table,
        Tenure, bucket_place,
    },
    histogram::{LAST_BUCKET, TABLES, Tables, bucket_at, look_up},
    key::Key,
};

use crate::{
    access::{add, load, store},
    tenure,
};

/// How long an exit took, and where the bucket of that is: found once for the rows that it goes to.
pub struct Duration {
    ns: u64,
    place: usize,
}

impl Duration {
    #[inline(always)]
    pub fn between(start: u64, end: u64) -> Self {
        let ns = end.wrapping_sub(start);
        let Some(place) = look_up(&PLACES, ns) else {
            cold_path();
            // What seems to be longest of all has ended before it began.
            let (ns, bucket) = if (ns as i64) < 0 { (0, 0) } else { (ns, LAST_BUCKET) };
            return Self { ns, place: bucket_place(bucket) };
        };
        let mut place = place as usize;
        if place > bucket_place(LAST_BUCKET) {
            // Never, but the verifier looks into no table.
            cold_path();
            place = 0;
        }
        Self { ns, place }
    }
}

/// Where the buckets are: [`bucket_place`].
static PLACES: Tables = {
    let mut places = [[0; 256]; TABLES];
    let mut at = 0;
    while at < TABLES * 256 {
        places[at / 256][at % 256] = bucket_place(bucket_at(at / 256, at % 256)) as u32;
        at += 1;
    }
    places
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
pub fn reason_row(book: *mut Counts, key: Key) -> *mut Row {
    let row = in_table(book, REASONS, key.0 as usize);
    if load!(row, key) == key.0 { row } else { search_reason(book, key.0) }
}

/// The row of a detail, likewise.
#[inline(always)]
pub fn detail_row(book: *mut Counts, key: Key) -> *mut Row {
    let row = in_table(book, DETAILS, key.home(DETAILS.bits));
    if load!(row, key) == key.0 { row } else { search_detail(book, key.0) }
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

/// Counts accesses to a detail beyond one for each exit and stray event. Apart from the programs, for few
/// have them.
#[inline(never)]
pub fn count_more(book: *mut Counts, key: u64, accesses: u64) {
    let key = Key(key);
    detail_row(book, key);
    let mut index = OTHERS.row(key.kind_number());
    for probe in 0..PROBES {
        let probed = DETAILS.row(key.home(DETAILS.bits) + probe);
        if load!(at(book, 0, probed), key) == key.0 {
            index = probed;
            break;
        }
    }
    add!(book, more[index], accesses);
}

/// Leaves an exit untimed, where others are timed.
#[inline(always)]
pub fn leave_untimed(row: *mut Row) {
    add!(row, untimed, 1);
}

/// Adds the part of an exit's time that was userspace's.
#[inline(always)]
pub fn time_userspace(row: *mut Row, ns: u64) {
    add!(row, user_ns, ns);
}

/// Adds the time of an exit that was counted.
#[inline(always)]
pub fn time_exit(row: *mut Row, duration: &Duration) {
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
        let bucket = row.byte_add(duration.place).byte_add(TO_DURATIONS).cast::<u32>();
        bucket.write_volatile(bucket.read_volatile().wrapping_add(1));
    }
}

/// Apart from the programs, which have nearly all rows at their homes. These rows are never given up, so a
/// free one ends the search.
#[inline(never)]
fn search_reason(book: *mut Counts, key: u64) -> *mut Row {
    for probe in 0..PROBES {
        let index = key as usize + probe;
        let row = in_table(book, REASONS, index);
        let owner = load!(row, key);
        if owner == Key::NONE.0 {
            take(book, row, Key(key), REASONS.row(index));
            return row;
        }
        if owner == key {
            return row;
        }
    }
    other_row(book, Key(key))
}

/// The row of a `key` that is not at its home, taken now if it is new; that of all others where there is no
/// room near its home, or its kind has its quota. Apart as [`search_reason`].
#[inline(never)]
fn search_detail(book: *mut Counts, key: u64) -> *mut Row {
    let key = Key(key);
    let home = key.home(DETAILS.bits);
    for probe in 0..PROBES {
        let row = in_table(book, DETAILS, home + probe);
        if load!(row, key) == key.0 {
            return row;
        }
    }
    let kind = key.kind_number();
    let taken = load!(book, taken[kind]);
    if taken < quota(key) {
        for probe in 0..PROBES {
            let row = in_table(book, DETAILS, home + probe);
            if load!(row, key) == Key::NONE.0 {
                store!(book, taken[kind], taken + 1);
                take(book, row, key, DETAILS.row(home + probe));
                return row;
            }
        }
    }
    let misses = load!(book, misses) + 1;
    store!(book, misses, misses);
    if misses.is_multiple_of(MISSES_PER_LOOK) {
        tenure::look(book, key.0, misses);
    }
    other_row(book, key)
}

/// The row for what found none of its own.
#[inline(always)]
pub fn other_row(book: *mut Counts, key: Key) -> *mut Row {
    let other = OTHERS.row(key.kind_number());
    let row = at(book, 0, other);
    if load!(row, key) == Key::NONE.0 {
        take(book, row, key.other(), other);
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
fn take(book: *mut Counts, row: *mut Row, key: Key, index: usize) {
    store!(row, key, key.0);
    store!(book, used[index / 64], load!(book, used[index / 64]) | 1 << (index % 64));
}

/// A row by its index in the table, of which only the bits that the table has are taken.
#[inline(always)]
fn in_table(book: *mut Counts, table: Table, index: usize) -> *mut Row {
    at(book, table.first, index & ((1 << table.bits) - 1))
}

/// A row of details by its index among them.
#[inline(always)]
pub fn detail_at(book: *mut Counts, index: usize) -> *mut Row {
    in_table(book, DETAILS, index)
}

/// Its tenure, likewise.
#[inline(always)]
pub fn tenure_at(book: *mut Counts, index: usize) -> *mut Tenure {
    let index = index & ((1 << DETAILS.bits) - 1);
    // SAFETY: within the book that a look-up has returned.
    unsafe {
        book.byte_add(index * size_of::<Tenure>()).byte_add(offset_of!(Counts, tenures)).cast()
    }
}

/// The index first and the other offset after it, which then becomes part of each access.
#[inline(always)]
fn at(book: *mut Counts, first: usize, index: usize) -> *mut Row {
    let rows = offset_of!(Counts, rows) + first * size_of::<Row>();
    // SAFETY: within the book that a look-up has returned: callers pass the index of a row.
    unsafe { book.byte_add(index * size_of::<Row>()).byte_add(rows).cast() }
}
