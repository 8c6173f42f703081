//! The book of one vCPU: a row with a histogram for each exit reason and for each detail.
//!
//! Two bounded tables, both open-addressed by [`Key`]: a guest chooses its ports, so it can fill the
//! table of details on purpose, but never push an exit reason out, nor reach another vCPU's book.
//! What finds no row is booked on the table's last one, [`OTHER_ROW`].

use crate::{
    histogram::{BUCKETS, Buckets},
    key::Key,
};

/// Rows of a table that keys are spread over, as a power of two.
pub const ROW_BITS: u32 = 6;
/// Rows of a table that have a key of their own.
pub const KEYED_ROWS: usize = 1 << ROW_BITS;
/// The row for everything that found none of its own.
pub const OTHER_ROW: usize = KEYED_ROWS;
/// All rows of a table.
pub const ROWS: usize = KEYED_ROWS + 1;
/// Rows that a key may take: its home and those after it. Bounds the search for the verifier.
pub const PROBES: usize = 8;

/// What is counted on one row. Counters only grow; an interval is the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Row {
    /// Whose row this is; [`Key::NONE`] while free. Never changes once set.
    pub key: u64,
    /// Exits, timed or not. Those with both ends timed have their duration in the fields below and
    /// in the histogram, whose sum is their number.
    pub exits: u64,
    /// Events that no open exit could be found for.
    pub stray: u64,
    /// Accesses, of details only: more than exits where one string instruction makes many.
    pub accesses: u64,
    /// Sum of the timed exits' exit→entry durations, nanoseconds.
    pub total_ns: u64,
    /// Shortest duration, nanoseconds; 0 while no exit was timed.
    pub min_ns: u64,
    /// Longest duration, nanoseconds.
    pub max_ns: u64,
    /// Access sizes seen, a bit mask of 1, 2, 4 and 8 (bytes).
    pub sizes: u32,
    /// Keeps the size a multiple of 8 on every target.
    pub reserved: u32,
}

/// Rows and their histograms. Apart, so that a reader scans the rows without touching the
/// histograms of those that did not change.
#[derive(Debug)]
#[repr(C)]
pub struct Table {
    /// The rows; [`OTHER_ROW`] is the last.
    pub rows: [Row; ROWS],
    /// The histogram of the row with the same index.
    pub histograms: [Buckets; ROWS],
}

/// Everything that is counted for one vCPU.
#[derive(Debug)]
#[repr(C)]
pub struct Book {
    /// By exit reason. Every booked exit is on exactly one of these rows.
    pub reasons: Table,
    /// By what the exit was for, where a tracepoint told.
    pub details: Table,
}

const _: () = assert!(size_of::<Row>() == 64);
const _: () = assert!(size_of::<Table>() == ROWS * (64 + 4 * BUCKETS));
const _: () = assert!(size_of::<Book>() == 2 * size_of::<Table>());

impl Row {
    /// Whether this row has a key.
    pub const fn is_used(&self) -> bool {
        self.key != Key::NONE.0
    }
}
