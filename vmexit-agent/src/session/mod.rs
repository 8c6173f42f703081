//! Sessions: sequences of measurements, of running VMs ([`live`]) or from recordings ([`replay`]).

pub(crate) mod guests;
pub(crate) mod live;
pub(crate) mod recorded;
pub(crate) mod replay;

use vmexit_core::measurement::Measurement;

use crate::error::Error;

/// A sequence of consecutive intervals.
pub(crate) trait Session {
    /// Waits for the next interval to end; `None` after the last one.
    ///
    /// Cancel safe: a dropped future loses no interval.
    ///
    /// # Errors
    /// Counters or a recording can't be read.
    async fn next(&mut self) -> Result<Option<Measurement>, Error>;
}
