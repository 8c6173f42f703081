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

    /// All values, valid as long as `self`.
    pub(super) fn iter(&self) -> impl Iterator<Item = *mut T> + '_ {
        let first = self.memory.as_mut_ptr().cast::<T>();
        // SAFETY: within the mapping, which is `len` values long.
        (0..self.len).map(move |index| unsafe { first.add(index) })
    }
}

/// Makes all bytes of a value 0. Nobody may be writing it.
pub(super) fn clear<T>(value: *mut T) {
    // SAFETY: values come from a mapping, which is writable.
    unsafe { ptr::write_bytes(value, 0, 1) };
}
