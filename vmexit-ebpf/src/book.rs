//! Adding up on a row of a book. The caller has marked the book as being written.

use core::{arch::asm, mem::offset_of};

use vmexit_common::{
    book::{
        Counts, DETAILS, OTHERS, PROBES, QUOTA, REASONS, Row, TO_DURATIONS, Table, bucket_place,
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
    #[inline(always)]
    pub fn between(start: u64, end: u64) -> Self {
        let ns = elapsed(start, end);
        let [mut place, parts] = bucket_place(bucket_of(ns));
        // SAFETY: arithmetic on registers. In assembly, for two reasons: LLVM puts it off until after a call,
        // across which there are not enough registers for both terms; and it can make an OR of a sum, which
        // the verifier takes for unbounded (`adjust_scalar_min_max_vals`, kernel/bpf/verifier.c of Linux 6.1).
        unsafe { asm!("{0} += {1}", inout(reg) place, in(reg) parts, options(nomem, nostack)) };
        Self { ns, place }
    }
}

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

/// Apart from the programs, which have nearly all rows at their homes.
#[inline(never)]
fn search_reason(book: *mut Counts, key: u64) -> *mut Row {
    search(book, REASONS, Key(key), key as usize)
}

/// As [`search_reason`].
#[inline(never)]
fn search_detail(book: *mut Counts, key: u64) -> *mut Row {
    search(book, DETAILS, Key(key), Key(key).home(DETAILS.bits))
}

/// The row of a `key` that is not at its home, taken now if it is new; that of all others where there is no
/// room near its home, or its kind has its quota. Rows are never given back while the book is in use, so
/// a free one ends the search.
#[inline(always)]
fn search(book: *mut Counts, table: Table, key: Key, home: usize) -> *mut Row {
    for probe in 0..PROBES {
        let row = in_table(book, table, home + probe);
        let owner = load!(row, key);
        if owner == key.0 {
            return row;
        }
        if owner == Key::NONE.0 {
            if !take_one(book, table, key) {
                break;
            }
            take(book, row, key, table.row(home + probe));
            return row;
        }
    }
    let other = OTHERS.row(key.kind_number());
    let row = at(book, 0, other);
    if load!(row, key) == Key::NONE.0 {
        take(book, row, key.other(), other);
    }
    row
}

/// Whether a kind may take one more row of details, which is then noted.
#[inline(always)]
fn take_one(book: *mut Counts, table: Table, key: Key) -> bool {
    if table.first != DETAILS.first {
        return true;
    }
    let kind = key.kind_number();
    // SAFETY: a kind's number is below KINDS.
    let quota = unsafe { (&raw const QUOTA).cast::<u8>().add(kind).read_volatile() };
    let taken = load!(book, taken[kind]);
    if taken >= quota {
        return false;
    }
    store!(book, taken[kind], taken + 1);
    true
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

/// The index first and the other offset after it, which then becomes part of each access.
#[inline(always)]
fn at(book: *mut Counts, first: usize, index: usize) -> *mut Row {
    let rows = offset_of!(Counts, rows) + first * size_of::<Row>();
    // SAFETY: within the book that a look-up has returned: callers pass the index of a row.
    unsafe { book.byte_add(index * size_of::<Row>()).byte_add(rows).cast() }
}
