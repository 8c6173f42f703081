//! The books, shared with the kernel: read in place. Their counts are mapped for good, which is three
//! pages of nineteen; a histogram is wanted now and then, and its book mapped for that time.

use std::{os::fd::AsFd as _, ptr};

use aya::maps::{Map, MapData};
use memmap2::{MmapOptions, MmapRaw};
use vmexit_common::book::{Book, Counts};

use super::ProbeError;

const NAME: &str = "BOOKS";

/// All books, as the kernel lays them out: one behind the other.
pub(super) struct Books {
    map: MapData,
    counts: Vec<MmapRaw>,
}

impl Books {
    pub(super) fn new(map: Map, len: u32) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else { return Err(ProbeError::Missing(NAME)) };
        let counts = (0..len as usize).map(|index| map_part(&map, index, size_of::<Counts>()));
        let counts = counts.collect::<Result<_, _>>()?;
        Ok(Self { map, counts })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The counts of a book below [`len`](Self::len), valid as long as `self`. The kernel writes them at the
    /// same time.
    pub(super) fn counts(&self, index: usize) -> *const Counts {
        self.counts[index].as_ptr().cast()
    }

    /// Whether the thread of a book below [`len`](Self::len) has had an exit.
    pub(super) fn has_exits(&self, index: usize) -> bool {
        // SAFETY: an aligned integer within the mapping.
        unsafe { ptr::read_volatile(&raw const (*self.counts(index)).isa) != 0 }
    }

    /// All of a book.
    pub(super) fn open(&self, index: usize) -> Result<OpenBook, ProbeError> {
        Ok(OpenBook(map_part(&self.map, index, size_of::<Book>())?))
    }
}

/// A book with its histograms, while somebody reads them.
pub(super) struct OpenBook(MmapRaw);

impl OpenBook {
    /// Valid as long as `self`. The kernel writes it at the same time.
    pub(super) fn book(&self) -> *const Book {
        self.0.as_ptr().cast()
    }

    /// Makes all bytes 0. Nobody may be writing it.
    pub(super) fn clear(self) {
        // SAFETY: the mapping is a book long, and writable.
        unsafe { ptr::write_bytes(self.0.as_mut_ptr().cast::<Book>(), 0, 1) };
    }
}

/// The first bytes of a book.
fn map_part(map: &MapData, index: usize, len: usize) -> Result<MmapRaw, ProbeError> {
    MmapOptions::new()
        .offset((index * size_of::<Book>()) as u64)
        .len(len)
        .map_raw(&map.fd().as_fd())
        .map_err(|source| ProbeError::Mmap { name: NAME, source })
}
