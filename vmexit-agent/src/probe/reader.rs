//! Reading stats blocks while their vCPU threads may write them.
//!
//! A stats block has two sequence numbers: exits at the start and at the end of the latest update (see
//! [`VcpuCounters`]). A reading is consistent if both are equal before it and the header is unchanged after it;
//! otherwise it is repeated.

use std::{
    arch::x86_64::{_MM_HINT_T0, _mm_prefetch},
    ptr,
    sync::atomic::{Ordering, fence},
};

use vmexit_common::{
    histogram::bucket_of,
    key::{Key, Kind},
    stats::{DETAILS, HISTOGRAM_OFFSET, Halts, ROWS, StatsRow, VcpuCounters, bucket_offset},
    vcpu::UNKNOWN_ID,
};
use vmexit_core::counters::{Durations, RowReading, Thread, VcpuReading};

use super::vcpu_stats::FullStats;

/// Maximum number of attempts to read a stats block; the last is used even if it is torn. An update takes some 100 ns and a copy a
/// few µs, so even a vCPU that exits all the time leaves gaps.
const TRIES: usize = 1_000;

/// Header of a stats block: thread, sequence numbers and counters that are not rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct StatsHead {
    thread: u64,
    since_ns: u64,
    vcpu_id: u32,
    isa: u32,
    seq_begin: u64,
    seq_end: u64,
    non_exit_updates: u64,
    lost_no_entry: u64,
    ended: u64,
    used: [u64; ROWS.div_ceil(64)],
    evictions: u64,
    halts: Halts,
}

impl StatsHead {
    /// Reads the header; its fields may be of different moments.
    pub(super) fn read(stats: *const VcpuCounters) -> Self {
        macro_rules! field {
            ($name:ident) => {
                // SAFETY: an aligned integer within the mapping.
                unsafe { ptr::read_volatile(&raw const (*stats).$name) }
            };
        }
        Self {
            thread: field!(thread),
            since_ns: field!(since_ns),
            vcpu_id: field!(vcpu_id),
            isa: field!(isa),
            seq_begin: field!(seq_begin),
            seq_end: field!(seq_end),
            non_exit_updates: field!(non_exit_updates),
            lost_no_entry: field!(lost_no_entry),
            ended: field!(ended),
            used: field!(used),
            evictions: field!(evictions),
            halts: field!(halts),
        }
    }

    /// Whether a thread has the stats block.
    pub(super) fn is_used(&self) -> bool {
        self.thread != 0
    }

    /// Thread of the stats block.
    pub(super) fn thread(&self) -> Thread {
        let (pid, tid) = ((self.thread >> 32) as u32, self.thread as u32);
        Thread { pid, tid, since_ns: self.since_ns }
    }

    /// Whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended != 0
    }

    /// Exits counted; other events where KVM reports no exits.
    pub(super) fn events(&self) -> u64 {
        self.seq_end.max(self.non_exit_updates)
    }
}

/// Reads a stats block with durations; also returns whether the reading is torn. `exits` is the number of exits in the
/// thread's entry, read before.
pub(super) fn read(stats: &FullStats, exits: u64) -> (VcpuReading, bool) {
    // SAFETY: within the mapping.
    let counters = unsafe { &raw const (*stats.stats()).counters };
    read_with(counters, exits, |at, row| {
        // SAFETY: a row of this mapping, which has the whole stats block.
        Some(Box::new(unsafe { read_durations(at, row.min_ns, row.max_ns) }))
    })
}

/// Reads a stats block without durations.
pub(super) fn read_counts(counters: *const VcpuCounters, exits: u64) -> (VcpuReading, bool) {
    read_with(counters, exits, |_, _| None)
}

fn read_with(
    counters: *const VcpuCounters,
    exits: u64,
    durations: impl Fn(*const StatsRow, &StatsRow) -> Option<Box<Durations>>,
) -> (VcpuReading, bool) {
    let mut tries = 0;
    loop {
        let header = StatsHead::read(counters);
        fence(Ordering::Acquire);
        let (reasons, details) = read_rows(counters, &header, &durations);
        fence(Ordering::Acquire);
        let consistent = header.seq_begin == header.seq_end && header == StatsHead::read(counters);
        tries += 1;
        if consistent || tries == TRIES {
            let exits = if header.has_ended() { header.ended - 1 } else { exits };
            // At most one exit is in flight: it is in `exits`, but not in `seq_end`.
            let observed = exits.max(header.seq_end);
            let reading = VcpuReading {
                thread: header.thread(),
                vcpu_id: Some(header.vcpu_id).filter(|&id| id != UNKNOWN_ID),
                isa: header.isa,
                observed,
                in_flight: observed - header.seq_end,
                lost_no_entry: header.lost_no_entry,
                halts: header.halts,
                reasons,
                details,
            };
            return (reading, !consistent);
        }
        // The writer may have been preempted within an update: let it run.
        std::thread::yield_now();
    }
}

/// Rows in use, by reason and by detail.
fn read_rows(
    counters: *const VcpuCounters,
    header: &StatsHead,
    durations: impl Fn(*const StatsRow, &StatsRow) -> Option<Box<Durations>>,
) -> (Vec<RowReading>, Vec<RowReading>) {
    let used = &header.used;
    let in_use = |word: &u64| word.count_ones() as usize;
    let (mut reasons, mut details) = (Vec::new(), Vec::new());
    // The rows of the first word are mostly reasons, those of the others details.
    reasons.reserve_exact(used.first().map_or(0, in_use));
    details.reserve_exact(used.iter().skip(1).map(in_use).sum());
    let indices =
        || used.iter().enumerate().flat_map(|(at, &word)| bits(word).map(move |bit| at * 64 + bit));
    // Another CPU wrote the rows, so a cache miss on each takes some 100 ns: prefetched, the misses overlap.
    for index in indices() {
        // SAFETY: an address within the mapping; a prefetch is only a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const (*counters).rows[index]).cast()) };
    }
    for index in indices() {
        // SAFETY: within the mapping. A torn copy of plain integers is at worst a wrong value, and the header shows
        // it.
        let (at, row, extra_accesses) = unsafe {
            let at = &raw const (*counters).rows[index];
            (
                at,
                ptr::read_volatile(at),
                ptr::read_volatile(&raw const (*counters).extra_accesses[index]),
            )
        };
        let by_reason = Key(row.key).table() == Some(Kind::Reason);
        let rows = if by_reason { &mut reasons } else { &mut details };
        // Rarely read: generations are in another part of the block, and evictions are rare.
        let generation = if header.evictions == 0 { 0 } else { generation(counters, index) };
        let durations = durations(at, &row);
        rows.push(RowReading { place: index as u16, generation, row, extra_accesses, durations });
    }
    (reasons, details)
}

/// Generation of a row: the number of evictions from its place. Only rows of details are evicted.
fn generation(counters: *const VcpuCounters, index: usize) -> u32 {
    let Some(detail) = index.checked_sub(DETAILS.first).filter(|_| index < DETAILS.end()) else {
        return 0;
    };
    // SAFETY: a plain integer within the mapping.
    unsafe { ptr::read_volatile(&raw const (*counters).generations[detail].generation) }
}

/// Positions of the set bits, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// Histogram of a row, between its shortest and its longest duration.
///
/// # Safety
///
/// The row is in a mapping of a whole stats block.
unsafe fn read_durations(row: *const StatsRow, min_ns: u64, max_ns: u64) -> Durations {
    if max_ns == 0 {
        return Durations::default();
    }
    let (first, last) = (bucket_of(min_ns), bucket_of(max_ns));
    let counters = (first..=last).map(|bucket| {
        let place = HISTOGRAM_OFFSET + bucket_offset(bucket);
        // SAFETY: a plain integer within the row's stats block.
        u64::from(unsafe { ptr::read_volatile(row.byte_add(place).cast::<u32>()) })
    });
    Durations::new(first, counters)
}
