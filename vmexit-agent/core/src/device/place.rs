//! The device at a port or guest-physical address, from the best available map of the VM.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use vmexit_common::key::{Key, Kind};

use super::{
    mtree::{Lookup, MemoryTree},
    well_known,
};
use crate::vm::Vmm;

/// Address map of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Map {
    /// Memory tree reported by its QEMU.
    Asked(MemoryTree),
    /// Common layout of VMs of this VMM.
    Guessed(Vmm),
}

/// A device register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// QEMU's name of the memory region, such as `acpi-tmr`; null if no region is there
    /// (unassigned). Set by QEMU's code, except for devices whose ID the user chose: unescaped.
    pub name: Option<String>,
    /// Owner of the region: the device's ID, or its path in QEMU's object tree; null if unknown.
    pub owner: Option<String>,
    /// Offset within the region, bytes.
    pub offset: u64,
    /// Whether this comes from common VM layouts instead of from QEMU.
    pub guess: bool,
}

impl Map {
    /// The device at an I/O port; `None` if unknown.
    pub fn port(&self, port: u16) -> Option<Device> {
        match self {
            Self::Asked(tree) => Some(tree.io.find(port.into()).into()),
            Self::Guessed(vmm) => well_known::port(*vmm, port).map(Into::into),
        }
    }

    /// Whether QEMU reported no region at the port or address of a key; false if QEMU was not
    /// asked.
    pub fn is_unassigned(&self, key: Key) -> bool {
        let Self::Asked(tree) = self else { return false };
        let found = match key.kind() {
            Some(Kind::Pio) => tree.io.find(key.value()),
            Some(Kind::Mmio | Kind::FastMmio) => tree.memory.find(key.value()),
            _ => return false,
        };
        matches!(found, Lookup::Unassigned)
    }

    /// The part of the map for these ports and addresses.
    pub fn subset(&self, ports: &BTreeSet<u16>, addresses: &BTreeSet<u64>) -> Self {
        match self {
            Self::Asked(tree) => Self::Asked(MemoryTree {
                io: tree.io.subset(ports.iter().copied().map(u64::from)),
                memory: tree.memory.subset(addresses.iter().copied()),
            }),
            Self::Guessed(vmm) => Self::Guessed(*vmm),
        }
    }

    /// Adds a map read later. A reported map is never replaced by a guess.
    pub fn extend(&mut self, later: Self) {
        match (&mut *self, later) {
            (Self::Asked(known), Self::Asked(later)) => {
                known.io.extend(later.io);
                known.memory.extend(later.memory);
            }
            (_, asked @ Self::Asked(_)) => *self = asked,
            (_, Self::Guessed(_)) => {}
        }
    }

    /// The device at a guest-physical address; `None` if unknown.
    pub fn memory(&self, address: u64) -> Option<Device> {
        match self {
            Self::Asked(tree) => Some(tree.memory.find(address).into()),
            Self::Guessed(vmm) => well_known::memory(*vmm, address).map(Into::into),
        }
    }
}

impl From<Lookup<'_>> for Device {
    fn from(found: Lookup<'_>) -> Self {
        let (name, owner, offset) = match found {
            Lookup::Region { region, offset } => {
                (Some(region.name.clone()), region.owner.clone(), offset)
            }
            Lookup::Unassigned => (None, None, 0),
        };
        Self { name, owner, offset, guess: false }
    }
}

impl From<well_known::Guess> for Device {
    fn from(guess: well_known::Guess) -> Self {
        let name = Some(guess.name.to_owned());
        Self { name, owner: None, offset: guess.offset, guess: true }
    }
}

/// Formats as `hpet+0xf0`, `acpi-tmr?` (guess), `virtio-pci-notify (net0)` (with owner), or
/// `unassigned`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = &self.name else { return f.write_str("unassigned") };
        f.write_str(name)?;
        if self.offset > 0 {
            write!(f, "+{:#x}", self.offset)?;
        }
        if self.guess {
            f.write_str("?")?;
        }
        // A path adds little to the name; an ID distinguishes devices.
        match self.owner.as_deref().filter(|owner| !owner.starts_with('/')) {
            Some(owner) => write!(f, " ({owner})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessed_device_is_displayed_with_question_mark() {
        let guessed = Map::Guessed(Vmm::Qemu);
        assert_eq!(guessed.port(0x608).unwrap().to_string(), "acpi-tmr?");
        assert_eq!(guessed.memory(0xfed0_00f0).unwrap().to_string(), "hpet+0xf0?");
        assert_eq!(guessed.port(0x5801), None);
    }

    #[test]
    fn device_owner_is_displayed_only_if_id() {
        let device = |owner: &str| Device {
            name: Some("virtio-pci".into()),
            owner: Some(owner.into()),
            offset: 0x10,
            guess: false,
        };
        assert_eq!(device("net0").to_string(), "virtio-pci+0x10 (net0)");
        assert_eq!(device("/machine/unattached/device[7]").to_string(), "virtio-pci+0x10");
        let unassigned = Device { name: None, owner: None, offset: 0, guess: false };
        assert_eq!(unassigned.to_string(), "unassigned");
    }
}
