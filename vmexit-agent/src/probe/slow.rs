//! Slow exits, one by one, from the ring buffer of the eBPF programs.

use std::ptr;

use aya::maps::{Map, MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use vmexit_common::{
    key::Key,
    slow::{BUFFER_BYTES, MAX_IGNORED, SlowExitRecord, SlowLimits},
};

use super::ProbeError;

/// Name of the ring buffer.
pub(super) const MAP: &str = "SLOW";

/// Selection of slow exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowFilter {
    /// Shortest duration, nanoseconds.
    pub at_least_ns: u64,
    /// Exit codes to leave out; only the first [`MAX_IGNORED`] are used.
    pub ignored: Vec<u32>,
}

impl SlowFilter {
    /// The selection as the eBPF programs compare it.
    pub(super) fn limits(&self) -> SlowLimits {
        let mut ignored = [Key::NONE.0; MAX_IGNORED];
        for (place, &code) in ignored.iter_mut().zip(&self.ignored) {
            *place = Key::reason(code).0;
        }
        SlowLimits { ns: self.at_least_ns, ignored }
    }
}

/// Stream of slow exits, in the order of their ends. Exits of different CPUs may be slightly out of order.
pub struct SlowExits(AsyncFd<RingBuf<MapData>>);

impl SlowExits {
    /// Upper limit of the exits that the buffer can hold.
    pub const CAPACITY: usize = BUFFER_BYTES as usize / size_of::<SlowExitRecord>();

    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        let buffer = RingBuf::try_from(map)?;
        // SAFETY: the buffer owns its descriptor and never changes it.
        let polled = unsafe { AsyncFd::register(buffer) };
        polled.map(Self).map_err(|error| ProbeError::Poll(error.into()))
    }

    /// Waits for exits and takes up to `most` of them; `most` is more than 0. Cancel safe: a dropped future loses no
    /// exit.
    ///
    /// # Errors
    /// The ring buffer can't be polled.
    pub async fn wait(&mut self, most: usize) -> Result<Vec<SlowExitRecord>, ProbeError> {
        loop {
            let mut ready = self.0.readable_mut().await.map_err(ProbeError::Poll)?;
            let exits = read(ready.get_inner_mut(), most);
            if exits.len() < most {
                // The kernel wakes this process again for records after the last one taken (`bpf_ringbuf_commit`,
                // kernel/bpf/ringbuf.c).
                ready.clear_ready();
            }
            if !exits.is_empty() {
                return Ok(exits);
            }
        }
    }

    /// Takes up to `most` exits without waiting.
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
            // SAFETY: the record has the size of a `SlowExitRecord`, which is plain integers.
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
    fn slow_filter_has_room_for_all_waiting_reasons() {
        for vendor in [Vendor::Vmx, Vendor::Svm] {
            let slow = SlowFilter { at_least_ns: 1, ignored: vendor.waiting().collect() };
            assert!((1..=MAX_IGNORED).contains(&slow.ignored.len()), "{vendor:?}");
            let limits = slow.limits();
            assert!(slow.ignored.iter().all(|&code| limits.ignored.contains(&Key::reason(code).0)));
        }
    }
}
