//! Reads books that their vCPU threads may be writing at the same moment.
//!
//! Each book says how many exits it had when the latest booking began and when it was done (see
//! [`Book`]). A reading counts if the two were equal before and all is unchanged after; else it is taken
//! again.

use std::{
    ptr,
    sync::atomic::{Ordering, fence},
};

use vmexit_common::{
    book::{Book, Line, OTHER_ROW, Table},
    histogram::{BUCKETS, bucket_of},
    vcpu::UNKNOWN_ID,
};

use crate::snapshot::{Durations, RowReading, Thread, VcpuReading};

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
    used_reasons: u64,
    used_details: u64,
}

impl Header {
    /// What the book says now; its fields may belong to different moments.
    pub(super) fn read(book: *const Book) -> Self {
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
            used_reasons: field!(used_reasons),
            used_details: field!(used_details),
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
pub(super) fn read(book: *const Book, exits: u64) -> (VcpuReading, bool) {
    let mut tries = 0;
    loop {
        let header = Header::read(book);
        fence(Ordering::Acquire);
        // SAFETY: within the mapping.
        let (reasons, details) = unsafe {
            (
                read_table(&raw const (*book).reasons, header.used_reasons),
                read_table(&raw const (*book).details, header.used_details),
            )
        };
        fence(Ordering::Acquire);
        let consistent = header.begun == header.done && header == Header::read(book);
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
                reasons,
                details,
            };
            return (reading, !consistent);
        }
        // The writer may have been preempted in the middle: let it run.
        std::thread::yield_now();
    }
}

/// The rows in use, and of their histograms what is between the shortest and the longest duration.
fn read_table(table: *const Table, used: u64) -> Vec<RowReading> {
    let mut rows = Vec::with_capacity(used.count_ones() as usize + 1);
    let keyed = (0..OTHER_ROW).filter(|index| used >> index & 1 != 0);
    for index in keyed.chain([OTHER_ROW]) {
        // SAFETY: `index` is below ROWS.
        let line = unsafe { &raw const (*table)[index] };
        // SAFETY: plain integers, so a torn copy is a wrong value at worst, and the header tells.
        let row = unsafe { ptr::read_volatile(&raw const (*line).row) };
        if row.is_used() {
            let durations = read_durations(line, row.min_ns, row.max_ns);
            rows.push(RowReading { row, durations });
        }
    }
    rows
}

fn read_durations(line: *const Line, min_ns: u64, max_ns: u64) -> Durations {
    if max_ns == 0 {
        return Durations::default();
    }
    let (first, last) = (bucket_of(min_ns), bucket_of(max_ns).min(BUCKETS - 1));
    let counts = (first..=last).map(|bucket| {
        // SAFETY: below BUCKETS, and as above.
        u64::from(unsafe { ptr::read_volatile(&raw const (*line).histogram[bucket]) })
    });
    Durations::new(first, counts)
}
