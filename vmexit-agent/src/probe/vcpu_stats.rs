//! The books, shared with the kernel: read in place. Their counts are mapped for good, which is three
//! pages of nineteen; a histogram is wanted now and then, and its book mapped for that time.

use std::{os::fd::AsFd as _, ptr};

use aya::maps::{Map, MapData};
use memmap2::{MmapOptions, MmapRaw};
use vmexit_common::stats::{VcpuCounters, VcpuStats};

use super::ProbeError;

const NAME: &str = "VCPU_STATS";

/// All books, as the kernel lays them out: one behind the other.
pub(super) struct StatsBlocks {
    map: MapData,
    counters: Vec<MmapRaw>,
}

impl StatsBlocks {
    pub(super) fn new(map: Map, len: u32) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else { return Err(ProbeError::Missing(NAME)) };
        let counters =
            (0..len as usize).map(|index| map_part(&map, index, size_of::<VcpuCounters>()));
        let counters = counters.collect::<Result<_, _>>()?;
        Ok(Self { map, counters })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.counters.len()
    }

    /// The counts of a book below [`len`](Self::len), valid as long as `self`. The kernel writes them at the
    /// same time.
    pub(super) fn counters(&self, index: usize) -> *const VcpuCounters {
        self.counters[index].as_ptr().cast()
    }

    /// Whether the thread of a book below [`len`](Self::len) has had an exit.
    pub(super) fn has_exits(&self, index: usize) -> bool {
        // SAFETY: an aligned integer within the mapping.
        unsafe { ptr::read_volatile(&raw const (*self.counters(index)).isa) != 0 }
    }

    /// All of a book.
    pub(super) fn open(&self, index: usize) -> Result<FullStats, ProbeError> {
        Ok(FullStats(map_part(&self.map, index, size_of::<VcpuStats>())?))
    }
}

/// A book with its histograms, while somebody reads them.
pub(super) struct FullStats(MmapRaw);

impl FullStats {
    /// Valid as long as `self`. The kernel writes it at the same time.
    pub(super) fn stats(&self) -> *const VcpuStats {
        self.0.as_ptr().cast()
    }

    /// Makes all bytes 0. Nobody may be writing it.
    pub(super) fn clear(self) {
        // SAFETY: the mapping is a book long, and writable.
        unsafe { ptr::write_bytes(self.0.as_mut_ptr().cast::<VcpuStats>(), 0, 1) };
    }
}

/// The first bytes of a book.
fn map_part(map: &MapData, index: usize, len: usize) -> Result<MmapRaw, ProbeError> {
    MmapOptions::new()
        .offset((index * size_of::<VcpuStats>()) as u64)
        .len(len)
        .map_raw(&map.fd().as_fd())
        .map_err(|source| ProbeError::Mmap { name: NAME, source })
}
