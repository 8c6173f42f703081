//! Names of kinds and directions of accesses, in files and outputs.

use serde::{Serialize, Serializer};
use vmexit_common::key::Kind;

use crate::event::Event;

/// Direction of an access, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The guest read from a port.
    In,
    /// The guest wrote to a port.
    Out,
    /// The guest read.
    Read,
    /// The guest wrote.
    Write,
}

impl Direction {
    /// Name in files and outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Properties of a kind.
struct Entry {
    kind: Kind,
    name: &'static str,
    /// The event in whose table its rows are.
    event: Event,
    /// Directions of a read and of a write; `None` if its keys have no direction.
    directions: Option<[Direction; 2]>,
}

const PORT: Option<[Direction; 2]> = Some([Direction::In, Direction::Out]);
const REGISTER: Option<[Direction; 2]> = Some([Direction::Read, Direction::Write]);

const fn entry(
    kind: Kind,
    name: &'static str,
    event: Event,
    directions: Option<[Direction; 2]>,
) -> Entry {
    Entry { kind, name, event, directions }
}

#[rustfmt::skip]
const KINDS: [Entry; 10] = [
    entry(Kind::Reason,      "reason",           Event::Vmexit,    None),
    entry(Kind::Pio,         "port",             Event::Ioport,    PORT),
    entry(Kind::Mmio,        "mmio",             Event::Mmio,      REGISTER),
    entry(Kind::FastMmio,    "doorbell",         Event::Mmio,      None),
    entry(Kind::Msr,         "msr",              Event::Msr,       REGISTER),
    entry(Kind::Cpuid,       "cpuid",            Event::Cpuid,     None),
    entry(Kind::Hypercall,   "kvm_hypercall",    Event::Hypercall, None),
    entry(Kind::HvHypercall, "hyperv_hypercall", Event::Hypercall, None),
    entry(Kind::Fault,       "fault",            Event::Fault,     None),
    entry(Kind::Userspace,   "userspace",        Event::Userspace, None),
];

fn find(kind: Kind) -> Option<&'static Entry> {
    KINDS.iter().find(|entry| entry.kind == kind)
}

/// Name of a kind in files and outputs, such as `port`; `other` for [`Kind::Other`].
pub fn name(kind: Kind) -> &'static str {
    find(kind).map_or("other", |entry| entry.name)
}

/// The kind of a name; `None` for an unknown name.
pub fn from_name(name: &str) -> Option<Kind> {
    KINDS.iter().find(|entry| entry.name == name).map(|entry| entry.kind)
}

/// The event whose table has the rows of a kind.
pub fn event(kind: Kind) -> Event {
    find(kind).map_or(Event::Vmexit, |entry| entry.event)
}

/// Directions of a read and of a write; `None` if the kind's keys have no direction.
pub(crate) fn directions(kind: Kind) -> Option<[Direction; 2]> {
    find(kind).and_then(|entry| entry.directions)
}

/// Serializes a kind by its name.
pub(crate) fn serialize<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_names_parse_back_to_kinds() {
        for entry in &KINDS {
            assert_eq!(from_name(name(entry.kind)), Some(entry.kind));
        }
        assert_eq!(from_name("other"), None);
    }
}
