//! What exits are for: which thing, in which direction, and what it is called.

use serde::Serialize;
use vmexit_common::key::{Key, Kind, userspace};

use super::fault;
use crate::{
    device::{Device, Map, names},
    reason::Vendor,
};

/// What an exit is for: a port, an address, a register, a call …
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// `port`, `mmio`, `doorbell`, `msr`, `cpuid`, `kvm_hypercall`, `hyperv_hypercall`, `fault` or
    /// `userspace`.
    pub kind: &'static str,
    /// The port, guest-physical address, register, leaf, call, fault code or `KVM_EXIT_…`; null for
    /// what found no row of its own.
    pub number: Option<u64>,
    /// `in` or `out` for ports, `read` or `write` for addresses and registers; null for all else.
    pub direction: Option<Direction>,
    /// What the number is called; null if unknown, or if it is an address.
    pub name: Option<String>,
    /// What is at the port or address; null for all else, and where nobody knows.
    pub device: Option<Device>,
}

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
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What numbers are named by.
#[derive(Clone, Copy)]
pub(super) struct Naming<'a> {
    pub vendor: Option<Vendor>,
    pub map: &'a Map,
}

impl Subject {
    /// That of a key.
    pub(super) fn of(key: Key, naming: Naming<'_>) -> Self {
        let other = key.kind() == Some(Kind::Other);
        let kind = key.table().unwrap_or(Kind::Other);
        let (number, write) = (key.value(), key.is_write());
        let directed = |read, written| (!other).then_some(if write { written } else { read });
        let (title, direction) = match kind {
            Kind::Pio => ("port", directed(Direction::In, Direction::Out)),
            Kind::Mmio => ("mmio", directed(Direction::Read, Direction::Write)),
            Kind::FastMmio => ("doorbell", directed(Direction::Write, Direction::Write)),
            Kind::Msr => ("msr", directed(Direction::Read, Direction::Write)),
            Kind::Cpuid => ("cpuid", None),
            Kind::Hypercall => ("kvm_hypercall", None),
            Kind::HvHypercall => ("hyperv_hypercall", None),
            Kind::Fault => ("fault", None),
            Kind::Userspace => ("userspace", None),
            Kind::Reason | Kind::Other => ("other", None),
        };
        let name = match kind {
            _ if other => None,
            Kind::Msr => names::msr::name(number as u32).map(Into::into),
            Kind::Cpuid => names::cpuid::name(number as u32).map(str::to_owned),
            Kind::Hypercall => names::kvm_hypercall::name(number).map(str::to_owned),
            Kind::HvHypercall => names::hyperv_hypercall::name(number as u16).map(str::to_owned),
            Kind::Fault => Some(fault::name(naming.vendor, number)),
            Kind::Userspace => userspace_name(number as u32).map(str::to_owned),
            Kind::Pio | Kind::Mmio | Kind::FastMmio | Kind::Reason | Kind::Other => None,
        };
        let device = match kind {
            _ if other => None,
            Kind::Pio => naming.map.port(number as u16),
            Kind::Mmio | Kind::FastMmio => naming.map.memory(number),
            _ => None,
        };
        Self { kind: title, number: (!other).then_some(number), direction, name, device }
    }
}

fn userspace_name(reason: u32) -> Option<&'static str> {
    match reason {
        userspace::INTERRUPTED => Some("interrupted"),
        userspace::FAILED => Some("failed"),
        reason => names::userspace_exit::name(reason),
    }
}
