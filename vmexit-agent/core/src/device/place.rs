//! Which device a port or guest-physical address belongs to, by the best map that there is of a VM.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use vmexit_common::key::{Key, Kind};

use super::{
    mtree::{Lookup, MemoryTree},
    well_known,
};
use crate::vm::Vmm;

/// What is known of a VM's address spaces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Map {
    /// What its QEMU says.
    Asked(MemoryTree),
    /// What such VMs commonly have.
    Guessed(Vmm),
}

/// A device's register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// QEMU's name of the memory region, such as `acpi-tmr`; null where nothing answers: unassigned.
    /// Chosen by QEMU's code, but for that of a device given an id by whoever started it: unescaped.
    pub name: Option<String>,
    /// Whose region it is: the device's id, or its path in QEMU's object tree; null where not told.
    pub owner: Option<String>,
    /// Bytes from the region's start.
    pub offset: u64,
    /// Whether it is what such VMs commonly have, and nobody was asked.
    pub guess: bool,
}

impl Map {
    /// The device behind an I/O port; `None` where nobody knows.
    pub fn port(&self, port: u16) -> Option<Device> {
        match self {
            Self::Asked(tree) => Some(tree.io.find(port.into()).into()),
            Self::Guessed(vmm) => well_known::port(*vmm, port).map(Into::into),
        }
    }

    /// Whether nothing answers at the port or address of a key, as QEMU says; no if it was never asked.
    pub fn is_unassigned(&self, key: Key) -> bool {
        let Self::Asked(tree) = self else { return false };
        let found = match key.kind() {
            Some(Kind::Pio) => tree.io.find(key.value()),
            Some(Kind::Mmio | Kind::FastMmio) => tree.memory.find(key.value()),
            _ => return false,
        };
        matches!(found, Lookup::Unassigned)
    }

    /// What of it tells about these ports and addresses; about others it then knows nothing.
    pub fn only(&self, ports: &BTreeSet<u16>, addresses: &BTreeSet<u64>) -> Self {
        match self {
            Self::Asked(tree) => Self::Asked(MemoryTree {
                io: tree.io.only(ports.iter().copied().map(u64::from)),
                memory: tree.memory.only(addresses.iter().copied()),
            }),
            Self::Guessed(vmm) => Self::Guessed(*vmm),
        }
    }

    /// Takes over what is known later; no guess where somebody was asked.
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

    /// The device behind a guest-physical address; `None` where nobody knows.
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

/// `hpet+0xf0`, `acpi-tmr?` for a guess, `virtio-pci-notify (net0)` with its owner, `unassigned`.
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
        // A path says little more than the name does; an id was given to tell devices apart.
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
    fn a_guess_says_so() {
        let guessed = Map::Guessed(Vmm::Qemu);
        assert_eq!(guessed.port(0x608).unwrap().to_string(), "acpi-tmr?");
        assert_eq!(guessed.memory(0xfed0_00f0).unwrap().to_string(), "hpet+0xf0?");
        assert_eq!(guessed.port(0x5801), None);
    }

    #[test]
    fn an_owner_with_an_id_is_named() {
        let device = |owner: &str| Device {
            name: Some("virtio-pci".into()),
            owner: Some(owner.into()),
            offset: 0x10,
            guess: false,
        };
        assert_eq!(device("net0").to_string(), "virtio-pci+0x10 (net0)");
        assert_eq!(device("/machine/unattached/device[7]").to_string(), "virtio-pci+0x10");
        let nobodys = Device { name: None, owner: None, offset: 0, guess: false };
        assert_eq!(nobodys.to_string(), "unassigned");
    }
}
