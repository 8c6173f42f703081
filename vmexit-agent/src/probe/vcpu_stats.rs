//! Stats blocks, shared with the kernel and read in place. Their counters stay mapped, some pages of each; a whole
//! block is only mapped while its histograms are read.

use std::{os::fd::AsFd as _, ptr};

use aya::maps::{Map, MapData};
use memmap2::{MmapOptions, MmapRaw};
use vmexit_common::stats::{VcpuCounters, VcpuStats};

use super::ProbeError;

const NAME: &str = "VCPU_STATS";

/// All stats blocks, one after the other in a map.
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

    /// Number of stats blocks.
    pub(super) fn len(&self) -> usize {
        self.counters.len()
    }

    /// Counters of a stats block, with an index below [`len`](Self::len). The pointer is valid as long as `self`; the
    /// kernel writes the counters at the same time.
    pub(super) fn counters(&self, index: usize) -> *const VcpuCounters {
        self.counters[index].as_ptr().cast()
    }

    /// Whether the thread of a stats block has had an exit.
    pub(super) fn has_exits(&self, index: usize) -> bool {
        // SAFETY: an aligned integer within the mapping.
        unsafe { ptr::read_volatile(&raw const (*self.counters(index)).isa) != 0 }
    }

    /// Maps a whole stats block.
    pub(super) fn map_full(&self, index: usize) -> Result<FullStats, ProbeError> {
        Ok(FullStats(map_part(&self.map, index, size_of::<VcpuStats>())?))
    }
}

/// A stats block with its histograms.
pub(super) struct FullStats(MmapRaw);

impl FullStats {
    /// The stats block. The pointer is valid as long as `self`; the kernel writes the block at the same time.
    pub(super) fn stats(&self) -> *const VcpuStats {
        self.0.as_ptr().cast()
    }

    /// Sets all bytes to 0. Its thread must have ended.
    pub(super) fn clear(self) {
        // SAFETY: the mapping has a whole stats block and is writable.
        unsafe { ptr::write_bytes(self.0.as_mut_ptr().cast::<VcpuStats>(), 0, 1) };
    }
}

/// Maps the first `len` bytes of a stats block.
fn map_part(map: &MapData, index: usize, len: usize) -> Result<MmapRaw, ProbeError> {
    MmapOptions::new()
        .offset((index * size_of::<VcpuStats>()) as u64)
        .len(len)
        .map_raw(&map.fd().as_fd())
        .map_err(|source| ProbeError::Mmap { name: NAME, source })
}
