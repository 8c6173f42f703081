//! What of all exits is measured, where that changes while programs run: set by userspace, read by each
//! program of a probe that was loaded for it.

/// [`SamplerControl::window_start_ns`] while nothing is counted.
pub const NO_WINDOW: u64 = u64::MAX;

/// When it is counted, and what is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SamplerControl {
    /// When the window that is open was opened, `CLOCK_MONOTONIC`, nanoseconds; or [`NO_WINDOW`]. An exit that
    /// is counted and not timed has it as its beginning: so it can be told which window an exit is of.
    pub window_start_ns: u64,
    /// The share of exits to time, of 2^32.
    pub share: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SamplerControl>() == 16);
