//! The book of one vCPU: whose it is, and a row with a histogram for each exit reason and for each
//! detail. Rows come first and histograms after them, so that who wants counts alone maps four pages
//! of thirty.
//!
//! Bounded, and keyed by [`Key`]: a guest chooses its ports and addresses, so it can fill the rows of
//! details on purpose, but no kind of detail takes more than its [`QUOTA`], none pushes an exit reason
//! out, and none reaches another vCPU's book. What finds no row is booked on its kind's in [`OTHERS`],
//! and so is, in the end, what was booked on a row that nothing comes for any more: it is given up for
//! others while there are some. Of a kind as a whole nothing is ever lost.

use crate::{
    histogram::BUCKETS,
    key::{KINDS, Key, Kind},
};

/// Rows that keys are spread over: a range of a book's rows, as long as a power of two.
#[derive(Clone, Copy, Debug)]
pub struct RowRange {
    /// The first row.
    pub first: usize,
    /// How many there are, as a power of two.
    pub bits: u32,
}

/// By exit reason. Every booked exit is on exactly one of these rows, or on the other row of its kind.
pub const REASONS: RowRange = RowRange { first: 0, bits: 6 };
/// By what the exit was for, where a tracepoint told.
pub const DETAILS: RowRange = RowRange { first: REASONS.end(), bits: 7 };
/// The rows for everything that found none of its own, by kind.
pub const OTHERS: RowRange = RowRange { first: DETAILS.end(), bits: KINDS.ilog2() };
/// All rows of a book.
pub const ROWS: usize = OTHERS.end();
/// Rows that a key may take: its home and those after it. Bounds the search for the verifier.
pub const PROBES: usize = 8;
/// One in so many events that find no row looks at so many rows as [`PROBES`], whether one of them can be
/// given up: one that nothing was booked on since the last look.
pub const MISSES_PER_SCAN: u64 = 32;

/// How many rows of details a kind may take: together fewer than there are, so that a guest that makes up
/// keys of one kind leaves room for the others.
pub static QUOTA: [u8; KINDS] = QUOTAS;

const QUOTAS: [u8; KINDS] = {
    let mut quota = [0; KINDS];
    quota[Kind::Pio as usize] = 36;
    quota[Kind::Mmio as usize] = 24;
    quota[Kind::FastMmio as usize] = 8;
    quota[Kind::Msr as usize] = 20;
    quota[Kind::Cpuid as usize] = 8;
    quota[Kind::Hypercall as usize] = 4;
    quota[Kind::HvHypercall as usize] = 6;
    quota[Kind::Fault as usize] = 6;
    quota[Kind::Userspace as usize] = 8;
    quota
};

const _: () = {
    let (mut kind, mut sum) = (0, 0);
    while kind < KINDS {
        sum += QUOTAS[kind] as usize;
        kind += 1;
    }
    assert!(sum <= (1 << DETAILS.bits) - PROBES);
};

/// What is counted on one row. Counters only grow until the row is given up; an interval is the difference
/// of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StatsRow {
    /// Whose row this is; [`Key::NONE`] while free.
    pub key: u64,
    /// Exits, timed or not. Those with both ends timed have their duration in the fields below and
    /// in the histogram, whose sum is their number.
    pub exits: u64,
    /// Events that no open exit could be found for.
    pub unmatched: u64,
    /// Exits that were left untimed where others are timed; not counted where none is.
    pub untimed: u64,
    /// Sum of the timed exits' exit→entry durations, nanoseconds.
    pub total_ns: u64,
    /// The part of it in which userspace had the vCPU, nanoseconds.
    pub user_ns: u64,
    /// Shortest duration, nanoseconds; 0 while no exit was timed.
    pub min_ns: u64,
    /// Longest duration, nanoseconds.
    pub max_ns: u64,
}

/// Whose turn it is on a row of details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RowGeneration {
    /// What was booked on the row when it was last looked at: exits and stray events, the low 32 bits.
    pub events_at_scan: u32,
    /// How often the row was given up. With its place it names a key's stay on it. Wraps.
    pub generation: u32,
}

/// Buckets of a [`HistogramSlice`].
pub const SLICE_BUCKETS: usize = 16;
/// Parts of a histogram.
pub const SLICES: usize = BUCKETS / SLICE_BUCKETS;
/// A part of a row's histogram: successive buckets. A count wraps at 2^32: readers subtract with
/// wrapping arithmetic.
pub type HistogramSlice = [u32; SLICE_BUCKETS];
/// One part of all rows.
pub type RowSlices = [HistogramSlice; ROWS];

/// [`VcpuCounters::seq_begin`] while something that is no exit is booked.
pub const BUSY: u64 = u64::MAX;

/// Whose a book is, and all of its rows.
///
/// A reader that finds `seq_begin`, `seq_end` and `non_exit_updates` the same before and after, and the first two equal,
/// has read a consistent book: one in which each of the `seq_end` exits is on a row or in
/// `lost_no_entry`.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct VcpuCounters {
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
    pub seq_begin: u64,
    /// Exits of the thread when it was done.
    pub seq_end: u64,
    /// Bookings of anything but exits.
    pub non_exit_updates: u64,
    /// Exits whose entry was never seen: another exit came first.
    pub lost_no_entry: u64,
    /// One more than the exits of a thread that is no more, the one that never ended included; 0 while
    /// it lives.
    pub ended: u64,
    /// Rows in use, a bit for each.
    pub used: [u64; ROWS.div_ceil(64)],
    /// Rows of details in use by kind, up to its [`QUOTA`].
    pub rows_used_by_kind: [u8; KINDS],
    /// How halts ended.
    pub halts: Halts,
    /// Events that found no row of details.
    pub misses: u64,
    /// How often a row of details was given up.
    pub evictions: u64,
    /// Keeps the rows at a cache line's start.
    pub reserved: [u64; 4],
    /// The rows.
    pub rows: [StatsRow; ROWS],
    /// Accesses beyond one for each exit and stray event, by row: one string instruction can make many,
    /// and an exit for several keys is booked on the last.
    pub extra_accesses: [u64; ROWS],
    /// By row of details.
    pub generations: [RowGeneration; 1 << DETAILS.bits],
}

/// How a vCPU's halts ended (`kvm_vcpu_halt`, virt/kvm/kvm_main.c). Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(serde::Deserialize, serde::Serialize), serde(default))]
#[repr(C)]
pub struct Halts {
    /// Halts in which the thread slept.
    pub blocked: u64,
    /// How long those took, the polling before included; nanoseconds.
    pub blocked_ns: u64,
    /// Halts that ended while KVM still polled, which keeps the CPU busy.
    pub polled: u64,
    /// How long those took, nanoseconds.
    pub polled_ns: u64,
}

/// Durations of the timed exits, part by part. A part is as long as a row: from a row to the bucket of a
/// duration it is as far in all rows.
pub type Histograms = [RowSlices; SLICES];

/// Everything that is counted for one vCPU thread.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct VcpuStats {
    /// All but the histograms, which is what a glance needs.
    pub counters: VcpuCounters,
    /// The histograms.
    pub histograms: Histograms,
}

const _: () = assert!(size_of::<StatsRow>() == 64 && size_of::<HistogramSlice>() == 64);
const _: () = assert!(core::mem::offset_of!(VcpuCounters, rows).is_multiple_of(64));
const _: () = assert!(core::mem::offset_of!(VcpuStats, histograms) == size_of::<VcpuCounters>());

/// Bytes from a row to a bucket of its histogram, less [`HISTOGRAM_OFFSET`].
pub const fn bucket_offset(bucket: usize) -> usize {
    let (slice, within) = (bucket / SLICE_BUCKETS, bucket % SLICE_BUCKETS);
    slice * size_of::<RowSlices>() + within * size_of::<u32>()
}

/// Bytes from a row to the first bucket of its histogram.
pub const HISTOGRAM_OFFSET: usize =
    core::mem::offset_of!(VcpuStats, histograms) - core::mem::offset_of!(VcpuCounters, rows);

impl RowRange {
    /// The first row that is not in it any more.
    pub const fn end(self) -> usize {
        self.first + (1 << self.bits)
    }

    /// The row that lies `index` after the first, from the start again where it would be beyond the last.
    #[inline(always)]
    pub const fn row(self, index: usize) -> usize {
        self.first + (index & ((1 << self.bits) - 1))
    }
}

impl Halts {
    /// Each part of this and another together, such as their sum.
    pub fn with(&self, other: &Self, together: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            blocked: together(self.blocked, other.blocked),
            blocked_ns: together(self.blocked_ns, other.blocked_ns),
            polled: together(self.polled, other.polled),
            polled_ns: together(self.polled_ns, other.polled_ns),
        }
    }
}

impl StatsRow {
    /// Whether this row has a key.
    pub const fn is_used(&self) -> bool {
        self.key != Key::NONE.0
    }
}
