//! The stats block of one vCPU: the thread it belongs to, and one row with a histogram for each exit
//! reason and for each detail. Counters come first and histograms after them: a reader of counters
//! alone maps 4 of the block's 30 pages.
//!
//! The number of rows is fixed, and a row is found by its [`Key`]. A guest chooses its ports and
//! addresses, so it can fill the rows of details on purpose. Three limits contain it: a kind of detail
//! has a [`QUOTA`] of rows, details and exit reasons have separate ranges, and each vCPU has its own
//! block.
//!
//! An event whose key finds no row is counted on the row of its kind in [`OTHERS`]. An idle row of
//! details is evicted when other keys need room, and its counters move to that row too. The sum over a
//! kind is therefore always complete.

use crate::{
    histogram::BUCKETS,
    key::{KINDS, Key, Kind},
};

/// A range of a block's rows that is used as one hash table. Its length is a power of two.
#[derive(Clone, Copy, Debug)]
pub struct RowRange {
    /// Index of the first row.
    pub first: usize,
    /// Binary logarithm of the number of rows.
    pub bits: u32,
}

/// Rows by exit reason. Every recorded exit is on exactly one of them, or on the `other` row of
/// reasons.
pub const REASONS: RowRange = RowRange { first: 0, bits: 6 };
/// Rows by detail: what the exit was for, as far as a tracepoint reported it.
pub const DETAILS: RowRange = RowRange { first: REASONS.end(), bits: 7 };
/// The `other` rows, one per [`Kind`]: events whose key has no row of its own.
pub const OTHERS: RowRange = RowRange { first: DETAILS.end(), bits: KINDS.ilog2() };
/// Rows of a block.
pub const ROWS: usize = OTHERS.end();
/// Length of a key's probe sequence: its home row and the rows after it. Bounds the search for the
/// verifier.
pub const PROBES: usize = 8;
/// Misses per idle scan. A miss is an event of a detail that finds no row. The scan covers [`PROBES`]
/// rows and evicts the first one that is idle since its previous scan.
pub const MISSES_PER_SCAN: u64 = 32;

/// Most rows of details per kind. Their sum is less than the number of rows, so that a guest that
/// invents keys of one kind leaves room for the others.
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

/// Counters of one row. They only grow until the row is evicted; an interval is the difference of two
/// readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StatsRow {
    /// [`Key`] of the row; [`Key::NONE`] while it is free.
    pub key: u64,
    /// Exits, timed or not. The durations of the timed ones are in the fields below and in the
    /// histogram, whose buckets add up to the number of timed exits.
    pub exits: u64,
    /// Unmatched events: no exit was in flight.
    pub unmatched: u64,
    /// Exits left untimed by sampling. Not counted while timing is off.
    pub untimed: u64,
    /// Sum of the timed exits' exit→entry durations, nanoseconds.
    pub total_ns: u64,
    /// Part of `total_ns` in which userspace had the vCPU, nanoseconds.
    pub user_ns: u64,
    /// Shortest duration, nanoseconds; 0 before the first timed exit.
    pub min_ns: u64,
    /// Longest duration, nanoseconds; 0 before the first timed exit.
    pub max_ns: u64,
}

/// Generation of a row of details, and what the idle scan remembers of the row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RowGeneration {
    /// Exits and unmatched events on the row at its latest idle scan, low 32 bits.
    pub events_at_scan: u32,
    /// Number of evictions from the row. Index and generation together identify one key's
    /// occupancy of the row. Wraps at 2^32.
    pub generation: u32,
}

/// Buckets of a [`HistogramSlice`].
pub const SLICE_BUCKETS: usize = 16;
/// Slices of a histogram.
pub const SLICES: usize = BUCKETS / SLICE_BUCKETS;
/// A slice of one row's histogram: consecutive buckets. A bucket wraps at 2^32; readers subtract with
/// wrapping arithmetic.
pub type HistogramSlice = [u32; SLICE_BUCKETS];
/// The same slice of all rows.
pub type RowSlices = [HistogramSlice; ROWS];

/// [`VcpuCounters::seq_begin`] during an update that records no exit.
pub const SEQ_BUSY: u64 = u64::MAX;

/// Everything in a stats block but the histograms: the thread, the sequence numbers, and the rows.
///
/// The sequence numbers work like a seqlock with one writer, the vCPU's own thread; the number of exits
/// is the sequence. A copy is consistent if `seq_begin` equals `seq_end`, and both and
/// `non_exit_updates` are the same before and after the copy. Each of the `seq_end` exits is then on a
/// row or in `lost_no_entry`.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct VcpuCounters {
    /// Process ID (upper half) and thread ID (lower half) in the initial PID namespace; 0 while the
    /// block is free.
    pub thread: u64,
    /// Time the thread was first seen: `CLOCK_MONOTONIC`, nanoseconds. Thread IDs are reused; `thread`
    /// and this time together are unique.
    pub since_ns: u64,
    /// Number of the vCPU within its VM, or [`UNKNOWN_ID`](crate::vcpu::UNKNOWN_ID).
    pub vcpu_id: u32,
    /// Vendor of the exit codes: 1 VMX, 2 SVM, 0 before the first exit.
    pub isa: u32,
    /// Sequence number at the start of the latest update: the thread's exits, or [`SEQ_BUSY`].
    pub seq_begin: u64,
    /// Sequence number at the end of the latest update: the thread's exits that are recorded or lost.
    pub seq_end: u64,
    /// Updates that recorded no exit: unmatched events, extra accesses, and ends of halts.
    pub non_exit_updates: u64,
    /// Exits without an entry: another exit came first.
    pub lost_no_entry: u64,
    /// Exits of a thread that has ended, plus one; 0 while the thread lives. Includes an exit that was
    /// still in flight.
    pub ended: u64,
    /// Bitmap of the rows in use.
    pub used: [u64; ROWS.div_ceil(64)],
    /// Rows of details in use, by kind; at most the kind's [`QUOTA`].
    pub rows_used_by_kind: [u8; KINDS],
    /// Halts by how they ended.
    pub halts: Halts,
    /// Misses: events of a detail that found no row.
    pub misses: u64,
    /// Evictions of rows of details.
    pub evictions: u64,
    /// Padding that aligns the rows to a cache line.
    pub reserved: [u64; 4],
    /// Rows: reasons, details, `other`.
    pub rows: [StatsRow; ROWS],
    /// Extra accesses by row: those beyond one for each exit and unmatched event. One string
    /// instruction makes many accesses, and an exit with several keys is recorded on the last.
    pub extra_accesses: [u64; ROWS],
    /// Generations by row of details.
    pub generations: [RowGeneration; 1 << DETAILS.bits],
}

/// Halts of a vCPU by how they ended (`kvm_vcpu_halt`, virt/kvm/kvm_main.c). Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(serde::Deserialize, serde::Serialize), serde(default))]
#[repr(C)]
pub struct Halts {
    /// Halts in which the thread slept.
    pub blocked: u64,
    /// Duration of those halts, nanoseconds, with the polling before the sleep.
    pub blocked_ns: u64,
    /// Halts that ended while KVM still polled, which keeps the host's CPU busy.
    pub polled: u64,
    /// Duration of those halts, nanoseconds.
    pub polled_ns: u64,
}

/// Histograms of all rows, slice by slice. A [`HistogramSlice`] is as long as a [`StatsRow`], so the
/// distance from a row to a given bucket of its histogram is the same for all rows.
pub type Histograms = [RowSlices; SLICES];

/// The stats block of one vCPU thread.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct VcpuStats {
    /// Counters: the pages that stay mapped.
    pub counters: VcpuCounters,
    /// Histograms: mapped while they are read.
    pub histograms: Histograms,
}

const _: () = assert!(size_of::<StatsRow>() == 64 && size_of::<HistogramSlice>() == 64);
const _: () = assert!(core::mem::offset_of!(VcpuCounters, rows).is_multiple_of(64));
const _: () = assert!(core::mem::offset_of!(VcpuStats, histograms) == size_of::<VcpuCounters>());

/// Offset of a bucket within its row's histogram, bytes. The histogram starts [`HISTOGRAM_OFFSET`]
/// after the row.
pub const fn bucket_offset(bucket: usize) -> usize {
    let (slice, within) = (bucket / SLICE_BUCKETS, bucket % SLICE_BUCKETS);
    slice * size_of::<RowSlices>() + within * size_of::<u32>()
}

/// Distance from a row to the first bucket of its histogram, bytes.
pub const HISTOGRAM_OFFSET: usize =
    core::mem::offset_of!(VcpuStats, histograms) - core::mem::offset_of!(VcpuCounters, rows);

impl RowRange {
    /// Index of the row after the last.
    pub const fn end(self) -> usize {
        self.first + (1 << self.bits)
    }

    /// Index of the row `index` places after the first, wrapped around at the end.
    #[inline(always)]
    pub const fn row(self, index: usize) -> usize {
        self.first + (index & ((1 << self.bits) - 1))
    }
}

impl Halts {
    /// Combination of both field by field: a sum, a difference.
    pub fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            blocked: combine(self.blocked, other.blocked),
            blocked_ns: combine(self.blocked_ns, other.blocked_ns),
            polled: combine(self.polled, other.polled),
            polled_ns: combine(self.polled_ns, other.polled_ns),
        }
    }
}

impl StatsRow {
    /// Whether the row has a key.
    pub const fn is_used(&self) -> bool {
        self.key != Key::NONE.0
    }
}
