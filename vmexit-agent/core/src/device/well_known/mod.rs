//! What a port or guest-physical address usually is, for VMs that can't be asked: where PCs have had
//! things for decades, and where each VMM puts its own. A guest can move most of it, so every answer
//! is a [`Guess`]; where there is a monitor, its answer ([`mtree`](super::mtree)) is the one to show.

mod other_vmms;
mod qemu;

use std::fmt;

use crate::vm::Vmm;

/// What something probably is. Its text ends in a question mark: `acpi-tmr?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// QEMU's name of the region, whichever the VMM. What may be in the kernel or in QEMU has the same
    /// name for both: `pic`, where QEMU has `kvm-pic` too.
    pub name: &'static str,
    /// How far into the device's registers the address is, in bytes.
    pub offset: u64,
}

/// First address, last address, offset of the first, name.
type WellKnownRow = (u64, u64, u64, &'static str);

/// Both address spaces; rows by address.
#[derive(Clone, Copy)]
struct WellKnownMap {
    ports: &'static [WellKnownRow],
    memory: &'static [WellKnownRow],
}

/// Of a VMM that nobody knows QEMU's are guessed: most of them are any PC's.
const fn map(vmm: Vmm) -> WellKnownMap {
    match vmm {
        Vmm::Qemu | Vmm::Kvmtool | Vmm::Other => qemu::MAP,
        Vmm::Firecracker => other_vmms::FIRECRACKER,
        Vmm::CloudHypervisor => other_vmms::CLOUD_HYPERVISOR,
        Vmm::Crosvm => other_vmms::CROSVM,
    }
}

/// What usually is at an I/O port.
pub fn port(vmm: Vmm, port: u16) -> Option<Guess> {
    find(map(vmm).ports, port.into())
}

/// What usually is at a guest-physical address.
pub fn memory(vmm: Vmm, address: u64) -> Option<Guess> {
    find(map(vmm).memory, address)
}

fn find(rows: &[WellKnownRow], address: u64) -> Option<Guess> {
    let behind = rows.partition_point(|(start, ..)| *start <= address);
    let (start, end, offset, name) = *rows[..behind].last()?;
    (address <= end).then(|| Guess { name, offset: offset + (address - start) })
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Vmm; 4] = [Vmm::Qemu, Vmm::Firecracker, Vmm::CloudHypervisor, Vmm::Crosvm];

    #[test]
    fn rows_are_by_address_and_apart() {
        for vmm in ALL {
            for rows in [map(vmm).ports, map(vmm).memory] {
                assert!(rows.iter().all(|(start, end, ..)| start <= end), "{vmm:?}");
                for pair in rows.windows(2) {
                    assert!(pair[0].1 < pair[1].0, "{vmm:?}: {:x?}", pair[1]);
                }
            }
            assert!(map(vmm).ports.iter().all(|row| row.1 <= 0xffff), "{vmm:?}");
        }
    }

    #[test]
    fn guesses_show_that_they_are() {
        let text = |guess: Option<Guess>| guess.map(|guess| guess.to_string());
        assert_eq!(text(port(Vmm::Other, 0x608)).as_deref(), Some("acpi-tmr?"));
        assert_eq!(text(port(Vmm::Firecracker, 0x608)), None);
        assert_eq!(text(port(Vmm::CloudHypervisor, 0x60b)).as_deref(), Some("acpi-tmr?"));
        assert_eq!(port(Vmm::Other, 0x5800), None);
        assert_eq!(memory(Vmm::Other, 0xfed0_00f0), Some(Guess { name: "hpet", offset: 0xf0 }));
        assert_eq!(memory(Vmm::Other, 0xfed0_0400), None);
        assert_eq!(port(Vmm::Other, 0x71), Some(Guess { name: "rtc", offset: 1 }));
        assert_eq!((memory(Vmm::Other, 0), memory(Vmm::Other, u64::MAX)), (None, None));
    }
}
