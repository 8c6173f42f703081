//! Subject of exits: its kind, number, direction and name.

use serde::Serialize;
use vmexit_common::key::{Key, Kind, userspace};

use super::fault;
use crate::{
    device::{Device, Map, names},
    kind::{self, Direction},
    vendor::Vendor,
};

/// Subject of an exit: a port, an address, a register, a call …
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// `port`, `mmio`, `doorbell`, `msr`, `cpuid`, `kvm_hypercall`, `hyperv_hypercall`, `fault` or
    /// `userspace`.
    #[serde(serialize_with = "kind::serialize")]
    pub kind: Kind,
    /// Port, guest-physical address, register, leaf, call, fault code or `KVM_EXIT_…`; null for the
    /// `other` row.
    pub number: Option<u64>,
    /// `in` or `out` for ports, `read` or `write` for addresses and registers; null for all else.
    pub direction: Option<Direction>,
    /// Name of the number; null if unknown, and for addresses.
    pub name: Option<String>,
    /// Device at the port or address; null if unknown, and for all else.
    pub device: Option<Device>,
}

/// Context for naming numbers.
#[derive(Clone, Copy)]
pub(super) struct Naming<'a> {
    pub vendor: Option<Vendor>,
    pub map: &'a Map,
}

impl Subject {
    /// The subject of a key.
    pub(super) fn of(key: Key, naming: Naming<'_>) -> Self {
        let other = key.kind() == Some(Kind::Other);
        let kind = key.table().unwrap_or(Kind::Other);
        let number = key.value();
        let direction = match kind {
            _ if other => None,
            // A doorbell is always a write, so its keys have no direction.
            Kind::FastMmio => Some(Direction::Write),
            kind => kind::directions(kind).map(|both| both[usize::from(key.is_write())]),
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
        Self { kind, number: (!other).then_some(number), direction, name, device }
    }
}

fn userspace_name(reason: u32) -> Option<&'static str> {
    match reason {
        userspace::INTERRUPTED => Some("interrupted"),
        userspace::FAILED => Some("failed"),
        reason => names::userspace_exit::name(reason),
    }
}
