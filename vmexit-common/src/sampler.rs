//! Sampling settings that change while the programs run. Userspace writes them; the programs of a
//! sampled probe read them at each event.

/// [`SamplerControl::window_start_ns`] while no window is open: nothing is counted.
pub const NO_WINDOW: u64 = u64::MAX;

/// Current window and sampling share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SamplerControl {
    /// Start of the open window, `CLOCK_MONOTONIC`, nanoseconds; or [`NO_WINDOW`]. It is also the
    /// timestamp of an untimed exit in flight, so that the exit's window is known.
    pub window_start_ns: u64,
    /// Share of exits to time, of 2^32.
    pub share: u32,
    /// Padding.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SamplerControl>() == 16);
