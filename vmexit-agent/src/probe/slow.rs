//! Exits that took long, one by one, from the ring buffer that the kernel side puts them into.

use std::ptr;

use aya::maps::{Map, MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use vmexit_common::{
    key::Key,
    slow::{BUFFER_BYTES, MAX_IGNORED, SlowExitRecord, SlowLimits},
};

use super::ProbeError;

/// The ring buffer's name.
pub(super) const MAP: &str = "SLOW";

/// Which exits to hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Those that took this long or longer, nanoseconds.
    pub at_least_ns: u64,
    /// But none with these exit codes, of which the first [`MAX_IGNORED`] count.
    pub ignored: Vec<u32>,
}

impl Slow {
    /// As the kernel side compares it.
    pub(super) fn limits(&self) -> SlowLimits {
        let mut ignored = [Key::NONE.0; MAX_IGNORED];
        for (place, &code) in ignored.iter_mut().zip(&self.ignored) {
            *place = Key::reason(code).0;
        }
        SlowLimits { ns: self.at_least_ns, ignored }
    }
}

/// The exits, in the order in which they ended; but for those of different CPUs, which can be a little out
/// of it.
pub struct SlowExits(AsyncFd<RingBuf<MapData>>);

impl SlowExits {
    /// More than the buffer can hold.
    pub const MOST: usize = BUFFER_BYTES as usize / size_of::<SlowExitRecord>();

    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        let buffer = RingBuf::try_from(map)?;
        // SAFETY: the buffer owns its descriptor and never changes it.
        let polled = unsafe { AsyncFd::register(buffer) };
        polled.map(Self).map_err(|error| ProbeError::Poll(error.into()))
    }

    /// Waits for exits, and takes those that are there, up to `most`; `most` is more than 0. Nothing is lost
    /// when it is dropped halfway.
    pub async fn wait(&mut self, most: usize) -> Result<Vec<SlowExitRecord>, ProbeError> {
        loop {
            let mut ready = self.0.readable_mut().await.map_err(ProbeError::Poll)?;
            let exits = read(ready.get_inner_mut(), most);
            if exits.len() < most {
                // The kernel wakes us again for what comes after the last one that was taken
                // (`bpf_ringbuf_commit`, kernel/bpf/ringbuf.c).
                ready.clear_ready();
            }
            if !exits.is_empty() {
                return Ok(exits);
            }
        }
    }

    /// Takes those that are there, up to `most`, without waiting.
    pub fn take(&mut self, most: usize) -> Vec<SlowExitRecord> {
        read(self.0.get_mut(), most)
    }
}

fn read(buffer: &mut RingBuf<MapData>, most: usize) -> Vec<SlowExitRecord> {
    let mut exits = Vec::new();
    while exits.len() < most
        && let Some(bytes) = buffer.next()
    {
        if bytes.len() >= size_of::<SlowExitRecord>() {
            // SAFETY: as long as an exit, of which any bytes are one.
            exits.push(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) });
        }
    }
    exits
}

#[cfg(test)]
mod tests {
    use vmexit_core::vendor::Vendor;

    use super::*;

    #[test]
    fn all_reasons_that_wait_can_be_left_out() {
        for vendor in [Vendor::Vmx, Vendor::Svm] {
            let slow = Slow { at_least_ns: 1, ignored: vendor.waiting().collect() };
            assert!((1..=MAX_IGNORED).contains(&slow.ignored.len()), "{vendor:?}");
            let limits = slow.limits();
            assert!(slow.ignored.iter().all(|&code| limits.ignored.contains(&Key::reason(code).0)));
        }
    }
}
