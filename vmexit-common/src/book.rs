//! The book of one vCPU: whose it is, and a row with a histogram for each exit reason and for each
//! detail. Rows come first and histograms after them, so that who wants counts alone maps three pages
//! of nineteen.
//!
//! Two bounded tables, both open-addressed by [`Key`]: a guest chooses its ports, so it can fill the
//! table of details on purpose, but never push an exit reason out, nor reach another vCPU's book.
//! What finds no row is booked on the table's last one, [`OTHER_ROW`].

use crate::{histogram::BUCKETS, key::Key};

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
    /// Accesses beyond one for each exit and stray event: one string instruction can make many, and
    /// an exit for several keys is booked on the last.
    pub more: u64,
    /// Sum of the timed exits' exit→entry durations, nanoseconds.
    pub total_ns: u64,
    /// Shortest duration, nanoseconds; 0 while no exit was timed.
    pub min_ns: u64,
    /// Longest duration, nanoseconds.
    pub max_ns: u64,
    /// Exits that were left untimed where others are timed; not counted where none is.
    pub untimed: u64,
}

/// A table; [`OTHER_ROW`] is the last.
pub type Table = [Row; ROWS];

/// Which table: by exit reason. Every booked exit is on exactly one of its rows.
pub const REASONS: usize = 0;
/// Which table: by what the exit was for, where a tracepoint told.
pub const DETAILS: usize = 1;
/// How many tables there are.
pub const TABLES: usize = 2;

/// Buckets of a [`Part`].
pub const PART_BUCKETS: usize = 16;
/// Parts of a histogram.
pub const PARTS: usize = BUCKETS / PART_BUCKETS;
/// A part of a row's histogram: successive buckets. A count wraps at 2^32: readers subtract with
/// wrapping arithmetic.
pub type Part = [u32; PART_BUCKETS];
/// One part of all rows.
pub type Parts = [[Part; ROWS]; TABLES];

/// [`Counts::begun`] while something that is no exit is booked.
pub const BUSY: u64 = u64::MAX;

/// Whose a book is, and all of its rows.
///
/// A reader that finds `begun`, `done` and `apart` the same before and after, and the first two equal,
/// has read a consistent book: one in which each of the `done` exits is on a row or in
/// `lost_no_entry`.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Counts {
    /// Process (upper half) and thread id (lower half) as the initial PID namespace has them; 0 while
    /// the book is nobody's.
    pub thread: u64,
    /// When the thread was first seen: `CLOCK_MONOTONIC`, nanoseconds. With `thread` it names a thread
    /// for ever: ids come back.
    pub since_ns: u64,
    /// The vCPU's number within its VM, or [`UNKNOWN_ID`](crate::vcpu::UNKNOWN_ID).
    pub vcpu_id: u32,
    /// Which vendor's exit codes these are: 1 VMX, 2 SVM, 0 while no exit was seen.
    pub isa: u32,
    /// Exits of the thread when the latest booking began, or [`BUSY`].
    pub begun: u64,
    /// Exits of the thread when it was done.
    pub done: u64,
    /// Bookings of anything but exits.
    pub apart: u64,
    /// Exits whose entry was never seen: another exit came first.
    pub lost_no_entry: u64,
    /// One more than the exits of a thread that is no more, the one that never ended included; 0 while
    /// it lives.
    pub ended: u64,
    /// Rows in use of each table, a bit for each but the last.
    pub used: [u64; TABLES],
    /// Keeps the tables at a cache line's start.
    pub reserved: [u64; 6],
    /// The rows.
    pub tables: [Table; TABLES],
}

/// Durations of the timed exits, part by part. A part is as long as a row: from a row to the bucket of a
/// duration it is as far in all rows.
pub type Durations = [Parts; PARTS];

/// Everything that is counted for one vCPU thread.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Book {
    /// All but the histograms, which is what a glance needs.
    pub counts: Counts,
    /// The histograms.
    pub durations: Durations,
}

const _: () = assert!(KEYED_ROWS == u64::BITS as usize);
const _: () = assert!(size_of::<Row>() == 64 && size_of::<Part>() == 64);
const _: () = assert!(core::mem::offset_of!(Book, durations) == size_of::<Counts>());

/// Bytes from a row to a bucket of its histogram, less [`TO_DURATIONS`].
///
/// From bucket to bucket, and from part to part what is beyond that: a sum whose terms share bits. Of any
/// other, LLVM makes an OR, which the verifier takes for unbounded (`adjust_scalar_min_max_vals`,
/// kernel/bpf/verifier.c of Linux 6.1).
#[inline(always)]
pub const fn bucket_place(bucket: usize) -> usize {
    let bucket = bucket % BUCKETS;
    bucket * size_of::<u32>() + bucket / PART_BUCKETS * (size_of::<Parts>() - size_of::<Part>())
}

/// Bytes from a row to the first bucket of its histogram.
pub const TO_DURATIONS: usize =
    core::mem::offset_of!(Book, durations) - core::mem::offset_of!(Counts, tables);

impl Row {
    /// Whether this row has a key.
    pub const fn is_used(&self) -> bool {
        self.key != Key::NONE.0
    }
}
