//! What of all exits is measured, where that changes while programs run: set by userspace, read by each
//! program of a probe that was loaded for it.

/// [`Sampler::since_ns`] while nothing is counted.
pub const SHUT: u64 = u64::MAX;

/// When it is counted, and what is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sampler {
    /// When the window that is open was opened, `CLOCK_MONOTONIC`, nanoseconds; or [`SHUT`]. An exit that
    /// is counted and not timed has it as its beginning: so it can be told which window an exit is of.
    pub since_ns: u64,
    /// The share of exits to time, of 2^32.
    pub share: u32,
    /// Nothing.
    pub unused: u32,
}

const _: () = assert!(size_of::<Sampler>() == 16);
