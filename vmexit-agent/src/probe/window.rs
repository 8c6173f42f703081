//! Windows: the times in which a sampled probe counts.

use aya::maps::{Array, Map, MapData};
use vmexit_common::sampler::{NO_WINDOW, SamplerControl};

use super::{ProbeError, ProbeOptions, now_ns};

/// Window and timing share, in the map that the programs read.
pub(super) struct Windows {
    map: Array<MapData, RawControl>,
    share: u32,
    /// Time at which the last window was closed; 0 while one is open.
    closed_ns: u64,
    /// Time without a window until the last one was opened, nanoseconds.
    unwatched_ns: u64,
}

/// Value of the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawControl(SamplerControl);

// SAFETY: integers without padding between them.
unsafe impl aya::Pod for RawControl {}

impl Windows {
    /// With an open window.
    pub(super) fn new(map: Map, options: &ProbeOptions) -> Result<Self, ProbeError> {
        let map = Array::try_from(map)?;
        Ok(Self { map, share: options.timing.share(), closed_ns: 0, unwatched_ns: 0 })
    }

    /// Whether a window is open.
    pub(super) fn is_open(&self) -> bool {
        self.closed_ns == 0
    }

    /// Opens a window. All programs count from the same moment on, as they read the same value.
    pub(super) fn open(&mut self) -> Result<(), ProbeError> {
        let now = now_ns();
        self.write(now)?;
        self.unwatched_ns = self.unwatched_ns(now);
        self.closed_ns = 0;
        Ok(())
    }

    /// Closes the window.
    pub(super) fn close(&mut self) -> Result<(), ProbeError> {
        self.write(NO_WINDOW)?;
        self.closed_ns = now_ns();
        Ok(())
    }

    /// Sets the share of exits to time, in units of 2^-32.
    pub(super) fn set_share(&mut self, share: u32) -> Result<(), ProbeError> {
        let RawControl(before) = self.map.get(&0, 0)?;
        self.share = share;
        self.write(before.window_start_ns)
    }

    /// Time without a window until now, nanoseconds.
    pub(super) fn unwatched_ns(&self, now_ns: u64) -> u64 {
        let closed_for = if self.is_open() { 0 } else { now_ns.saturating_sub(self.closed_ns) };
        self.unwatched_ns + closed_for
    }

    fn write(&mut self, window_start_ns: u64) -> Result<(), ProbeError> {
        Ok(self.map.set(
            0,
            RawControl(SamplerControl { window_start_ns, share: self.share, reserved: 0 }),
            0,
        )?)
    }
}
