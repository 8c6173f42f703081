//! Reads entries and books that their vCPU threads may be writing at the same moment.
//!
//! Each entry has two sequence counters, odd while a program writes (see [`Vcpu`]). A reading
//! counts if both were even before and unchanged after; else it is taken again.

use std::{
    collections::BTreeSet,
    ptr,
    sync::atomic::{Ordering, fence},
};

use vmexit_common::{
    book::{Book, ROWS, Table},
    histogram::{BUCKETS, Buckets},
    vcpu::Vcpu,
};

use super::mapping::Mapping;
use crate::snapshot::{RowReading, Snapshot, VcpuReading};

/// Readings of one entry before the last is taken as it is. A booking takes some 100 ns, a copy a
/// few µs: even a vCPU that exits all the time leaves gaps.
const TRIES: usize = 1_000;

/// The kernel-side clock, nanoseconds.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// All entries in use and their books.
pub(super) fn read(vcpus: &Mapping<Vcpu>, books: &Mapping<Book>) -> Snapshot {
    let mut snapshot = Snapshot { at_ns: now_ns(), ..Snapshot::default() };
    for entry in entries(vcpus) {
        let (reading, torn) = read_one(entry, books);
        snapshot.torn += u64::from(torn);
        snapshot.vcpus.push(reading);
    }
    snapshot
}

/// Processes that have an entry.
pub(super) fn pids(vcpus: &Mapping<Vcpu>) -> BTreeSet<u32> {
    entries(vcpus).map(|entry| load(entry).pid()).collect()
}

/// Exits seen by all vCPUs so far, or bookings where KVM reports no exits; each may be off by the
/// one that is being noted.
pub(super) fn events_seen(vcpus: &Mapping<Vcpu>) -> u64 {
    entries(vcpus).map(load).map(|vcpu| vcpu.observed().max(vcpu.books_seq / 2)).sum()
}

fn entries(vcpus: &Mapping<Vcpu>) -> impl Iterator<Item = *const Vcpu> + '_ {
    (0..vcpus.len()).filter_map(|index| vcpus.get(index)).filter(|&entry| {
        // SAFETY: an aligned field of the mapping.
        unsafe { ptr::read_volatile(&raw const (*entry).thread) != 0 }
    })
}

fn load(entry: *const Vcpu) -> Vcpu {
    // SAFETY: within the mapping; plain integers, so a torn copy is a wrong value at worst, and the
    // sequence counters tell.
    unsafe { ptr::read_volatile(entry) }
}

/// One entry with its book, and whether it may be inconsistent.
fn read_one(entry: *const Vcpu, books: &Mapping<Book>) -> (VcpuReading, bool) {
    let mut tries = 0;
    loop {
        let vcpu = load(entry);
        fence(Ordering::Acquire);
        let (reasons, details) = match books.get(vcpu.book as usize) {
            // SAFETY: within the mapping.
            Some(book) => unsafe {
                (read_table(&raw const (*book).reasons), read_table(&raw const (*book).details))
            },
            None => (Vec::new(), Vec::new()),
        };
        fence(Ordering::Acquire);
        let after = load(entry);
        let sequences = |vcpu: &Vcpu| (vcpu.thread, vcpu.exits_seq, vcpu.books_seq);
        let consistent = !vcpu.is_being_written() && sequences(&vcpu) == sequences(&after);
        tries += 1;
        if consistent || tries == TRIES {
            return (VcpuReading { vcpu, reasons, details }, !consistent);
        }
        // The writer may have been preempted in the middle: let it run.
        std::thread::yield_now();
    }
}

/// The rows in use, and only their histograms.
fn read_table(table: *const Table) -> Vec<RowReading> {
    let mut readings = Vec::new();
    for index in 0..ROWS {
        // SAFETY: `index` is below ROWS; plain integers, as in `load`.
        let row = unsafe { ptr::read_volatile(&raw const (*table).rows[index]) };
        if !row.is_used() {
            continue;
        }
        let mut histogram: Box<Buckets> = Box::new([0; BUCKETS]);
        if row.max_ns > 0 {
            // SAFETY: as above.
            *histogram = unsafe { ptr::read_volatile(&raw const (*table).histograms[index]) };
        }
        readings.push(RowReading { row, histogram });
    }
    readings
}
