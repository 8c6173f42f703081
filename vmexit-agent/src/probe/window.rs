//! The times in which it is counted, where it is not counted all the time.

use aya::maps::{Array, Map, MapData};
use vmexit_common::sampler::{NO_WINDOW, SamplerControl};

use super::{ProbeError, ProbeOptions, now_ns};

/// The same in the kernel, which is what the programs go by.
pub(super) struct Windows {
    map: Array<MapData, Raw>,
    share: u32,
    /// When the last one was shut; 0 while one is open.
    shut_ns: u64,
    /// How long none was open, until the last was opened.
    unwatched_ns: u64,
}

/// A map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Raw(SamplerControl);

// SAFETY: integers without padding between them.
unsafe impl aya::Pod for Raw {}

impl Windows {
    /// With one that is open, for those who never shut it.
    pub(super) fn new(map: Map, options: &ProbeOptions) -> Result<Self, ProbeError> {
        let map = Array::try_from(map)?;
        Ok(Self { map, share: options.timing.share(), shut_ns: 0, unwatched_ns: 0 })
    }

    pub(super) fn is_open(&self) -> bool {
        self.shut_ns == 0
    }

    /// From now on all programs count: at once, for they all read the same.
    pub(super) fn open(&mut self) -> Result<(), ProbeError> {
        let now = now_ns();
        self.write(now)?;
        self.unwatched_ns = self.unwatched_ns(now);
        self.shut_ns = 0;
        Ok(())
    }

    pub(super) fn shut(&mut self) -> Result<(), ProbeError> {
        self.write(NO_WINDOW)?;
        self.shut_ns = now_ns();
        Ok(())
    }

    pub(super) fn time(&mut self, share: u32) -> Result<(), ProbeError> {
        let Raw(before) = self.map.get(&0, 0)?;
        self.share = share;
        self.write(before.window_start_ns)
    }

    /// Until a time that is now.
    pub(super) fn unwatched_ns(&self, now_ns: u64) -> u64 {
        let shut_for = if self.is_open() { 0 } else { now_ns.saturating_sub(self.shut_ns) };
        self.unwatched_ns + shut_for
    }

    fn write(&mut self, window_start_ns: u64) -> Result<(), ProbeError> {
        Ok(self.map.set(
            0,
            Raw(SamplerControl { window_start_ns, share: self.share, reserved: 0 }),
            0,
        )?)
    }
}
