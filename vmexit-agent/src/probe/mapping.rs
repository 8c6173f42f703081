//! An eBPF array shared with the kernel: read in place, without a system call.

use std::{marker::PhantomData, os::fd::AsFd as _, ptr};

use aya::maps::Map;
use memmap2::{MmapOptions, MmapRaw};

use super::ProbeError;

/// The values of an array map, as the kernel lays them out: each at a multiple of 8 bytes.
pub(super) struct Mapping<T> {
    memory: MmapRaw,
    len: usize,
    _values: PhantomData<*mut T>,
}

// SAFETY: shared memory that is only ever reached through volatile accesses; its users say how they cope
// with a concurrent writer.
unsafe impl<T: Send> Send for Mapping<T> {}

impl<T> Mapping<T> {
    pub(super) fn new(name: &'static str, map: &Map, len: u32) -> Result<Self, ProbeError> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel rounds values up to 8") };
        let Map::Array(data) = map else { return Err(ProbeError::Missing(name)) };
        let len = len as usize;
        let memory = MmapOptions::new()
            .len(len * size_of::<T>())
            .map_raw(&data.fd().as_fd())
            .map_err(|source| ProbeError::Mmap { name, source })?;
        Ok(Self { memory, len, _values: PhantomData })
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value at `index`, valid as long as `self`; `None` beyond the end.
    pub(super) fn get(&self, index: usize) -> Option<*const T> {
        self.at(index).map(<*mut T>::cast_const)
    }

    /// Makes all bytes of a value 0. Nobody may be writing it.
    pub(super) fn clear(&mut self, index: usize) {
        if let Some(value) = self.at(index) {
            // SAFETY: within the mapping, which is writable.
            unsafe { ptr::write_bytes(value, 0, 1) };
        }
    }

    fn at(&self, index: usize) -> Option<*mut T> {
        // SAFETY: within the mapping, which is `len` values long.
        (index < self.len).then(|| unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) })
    }
}
