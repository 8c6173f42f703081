//! Reads books that their vCPU threads may be writing at the same moment.
//!
//! Each book says how many exits it had when the latest booking began and when it was done (see
//! [`Counts`]). A reading counts if the two were equal before and all is unchanged after; else it is taken
//! again.

use std::{
    arch::x86_64::{_MM_HINT_T0, _mm_prefetch},
    ptr,
    sync::atomic::{Ordering, fence},
};

use vmexit_common::{
    book::{Counts, DETAILS, Halts, ROWS, Row, TO_DURATIONS, bucket_place},
    histogram::bucket_of,
    key::{Key, Kind},
    vcpu::UNKNOWN_ID,
};

use super::books::OpenBook;
use vmexit_core::counters::{Durations, RowReading, Thread, VcpuReading};

/// Readings of one book before the last is taken as it is. A booking takes some 100 ns, a copy a few
/// µs: even a vCPU that exits all the time leaves gaps.
const TRIES: usize = 1_000;

/// What a book says of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    thread: u64,
    since_ns: u64,
    vcpu_id: u32,
    isa: u32,
    begun: u64,
    done: u64,
    apart: u64,
    lost_no_entry: u64,
    ended: u64,
    used: [u64; ROWS.div_ceil(64)],
    given_up: u64,
    halts: Halts,
}

impl Header {
    /// What the book says now; its fields may belong to different moments.
    pub(super) fn read(book: *const Counts) -> Self {
        macro_rules! field {
            ($name:ident) => {
                // SAFETY: an aligned integer within the mapping.
                unsafe { ptr::read_volatile(&raw const (*book).$name) }
            };
        }
        Self {
            thread: field!(thread),
            since_ns: field!(since_ns),
            vcpu_id: field!(vcpu_id),
            isa: field!(isa),
            begun: field!(begun),
            done: field!(done),
            apart: field!(apart),
            lost_no_entry: field!(lost_no_entry),
            ended: field!(ended),
            used: field!(used),
            given_up: field!(given_up),
            halts: field!(halts),
        }
    }

    /// Whether the book is anybody's.
    pub(super) fn is_used(&self) -> bool {
        self.thread != 0
    }

    pub(super) fn thread(&self) -> Thread {
        let (pid, tid) = ((self.thread >> 32) as u32, self.thread as u32);
        Thread { pid, tid, since_ns: self.since_ns }
    }

    /// Whether the thread is no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended != 0
    }

    /// Exits booked, or other events where there are no exits.
    pub(super) fn events(&self) -> u64 {
        self.done.max(self.apart)
    }
}

/// One book, and whether the reading may be inconsistent. `exits` is how many exits its thread's entry
/// had a moment before.
pub(super) fn read(book: &OpenBook, exits: u64) -> (VcpuReading, bool) {
    // SAFETY: within the mapping.
    let counts = unsafe { &raw const (*book.book()).counts };
    read_with(counts, exits, |at, row| {
        // SAFETY: a row of this mapping, which is a whole book long.
        Some(Box::new(unsafe { read_durations(at, row.min_ns, row.max_ns) }))
    })
}

/// The same without durations.
pub(super) fn read_counts(counts: *const Counts, exits: u64) -> (VcpuReading, bool) {
    read_with(counts, exits, |_, _| None)
}

fn read_with(
    counts: *const Counts,
    exits: u64,
    durations: impl Fn(*const Row, &Row) -> Option<Box<Durations>>,
) -> (VcpuReading, bool) {
    let mut tries = 0;
    loop {
        let header = Header::read(counts);
        fence(Ordering::Acquire);
        let (reasons, details) = read_rows(counts, &header, &durations);
        fence(Ordering::Acquire);
        let consistent = header.begun == header.done && header == Header::read(counts);
        tries += 1;
        if consistent || tries == TRIES {
            let exits = if header.has_ended() { header.ended - 1 } else { exits };
            // One exit at most is open: it is beyond those that are done.
            let observed = exits.max(header.done);
            let reading = VcpuReading {
                thread: header.thread(),
                vcpu_id: Some(header.vcpu_id).filter(|&id| id != UNKNOWN_ID),
                isa: header.isa,
                observed,
                open: observed - header.done,
                lost_no_entry: header.lost_no_entry,
                halts: header.halts,
                reasons,
                details,
            };
            return (reading, !consistent);
        }
        // The writer may have been preempted in the middle: let it run.
        std::thread::yield_now();
    }
}

/// The rows in use: those by reason, and those by detail.
fn read_rows(
    counts: *const Counts,
    header: &Header,
    durations: impl Fn(*const Row, &Row) -> Option<Box<Durations>>,
) -> (Vec<RowReading>, Vec<RowReading>) {
    let used = &header.used;
    let in_use = |word: &u64| word.count_ones() as usize;
    let (mut reasons, mut details) = (Vec::new(), Vec::new());
    // Nearly all of the first word are reasons, and of the others details.
    reasons.reserve_exact(used.first().map_or(0, in_use));
    details.reserve_exact(used.iter().skip(1).map(in_use).sum());
    let indices =
        || used.iter().enumerate().flat_map(|(at, &word)| bits(word).map(move |bit| at * 64 + bit));
    // Another CPU wrote them, so each is some 100 ns away: all at once rather than one after the other.
    for index in indices() {
        // SAFETY: within the mapping, and only a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const (*counts).rows[index]).cast()) };
    }
    for index in indices() {
        // SAFETY: within the mapping. Plain integers, so a torn copy is a wrong value at worst, and the
        // header tells.
        let (at, row, more) = unsafe {
            let at = &raw const (*counts).rows[index];
            (at, ptr::read_volatile(at), ptr::read_volatile(&raw const (*counts).more[index]))
        };
        let by_reason = Key(row.key).table() == Some(Kind::Reason);
        let rows = if by_reason { &mut reasons } else { &mut details };
        // Nearly always none was given up; they lie elsewhere.
        let tenure = if header.given_up == 0 { 0 } else { tenure(counts, index) };
        let durations = durations(at, &row);
        rows.push(RowReading { place: index as u16, tenure, row, more, durations });
    }
    (reasons, details)
}

/// How many keys had a row before; only those of details are ever given up.
fn tenure(counts: *const Counts, index: usize) -> u32 {
    let Some(detail) = index.checked_sub(DETAILS.first).filter(|_| index < DETAILS.end()) else {
        return 0;
    };
    // SAFETY: within the mapping, and as above.
    unsafe { ptr::read_volatile(&raw const (*counts).tenures[detail].number) }
}

/// The places of the bits that are set, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// What a row's histogram has between the shortest and the longest duration.
///
/// # Safety
///
/// The row lies in a whole book.
unsafe fn read_durations(row: *const Row, min_ns: u64, max_ns: u64) -> Durations {
    if max_ns == 0 {
        return Durations::default();
    }
    let (first, last) = (bucket_of(min_ns), bucket_of(max_ns));
    let counts = (first..=last).map(|bucket| {
        let place = TO_DURATIONS + bucket_place(bucket);
        // SAFETY: within the row's book, and as above.
        u64::from(unsafe { ptr::read_volatile(row.byte_add(place).cast::<u32>()) })
    });
    Durations::new(first, counts)
}
