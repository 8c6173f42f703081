//! Sources of intervals: VMs that run ([`live`]), or what was recorded of some ([`replay`]). Commands ask for the next
//! measurement, whichever it is.

pub(crate) mod guests;
pub(crate) mod live;
pub(crate) mod recorded;
pub(crate) mod replay;

use vmexit_core::measurement::Measurement;

use crate::error::Error;

/// A source of intervals that follow one another.
pub(crate) trait Session {
    /// The next interval, as soon as it is complete; `None` after the last.
    ///
    /// Cancel safe: an interval whose future was dropped is still to come.
    ///
    /// # Errors
    /// Counters or a recording can't be read.
    async fn next(&mut self) -> Result<Option<Measurement>, Error>;
}
