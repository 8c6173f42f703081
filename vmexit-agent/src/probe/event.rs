//! What is captured.

use serde::Serialize;

/// Something that happens to a vCPU; each has tracepoints of its own, and a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Exits by reason: always captured
    Vmexit,
    /// The I/O ports that exits are for
    Ioport,
}

impl Event {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Vmexit, Self::Ioport];
}
