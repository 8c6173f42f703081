//! Common layouts of ports and guest-physical addresses, for VMs whose VMM can't be asked: the
//! traditional PC layout, and what each VMM adds. A guest can move most devices, so every answer is
//! a [`Guess`]; QEMU's memory tree ([`mtree`](super::mtree)) takes precedence.

mod other_vmms;
mod qemu;

use std::fmt;

use crate::vm::Vmm;

/// A probable device register. Displayed with a question mark: `acpi-tmr?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// QEMU's name of the region, for every VMM. Devices that can be in the kernel or in QEMU have
    /// one name: `pic`, also for QEMU's `kvm-pic`.
    pub name: &'static str,
    /// Offset of the address within the device's registers, bytes.
    pub offset: u64,
}

/// First address, last address, offset of the first, name.
type WellKnownRow = (u64, u64, u64, &'static str);

/// Both address spaces; rows are sorted by address.
#[derive(Clone, Copy)]
struct WellKnownMap {
    ports: &'static [WellKnownRow],
    memory: &'static [WellKnownRow],
}

/// The layout of a VMM. Unknown VMMs get QEMU's, most of which is common to all PCs.
const fn map(vmm: Vmm) -> WellKnownMap {
    match vmm {
        Vmm::Qemu | Vmm::Kvmtool | Vmm::Other => qemu::MAP,
        Vmm::Firecracker => other_vmms::FIRECRACKER,
        Vmm::CloudHypervisor => other_vmms::CLOUD_HYPERVISOR,
        Vmm::Crosvm => other_vmms::CROSVM,
    }
}

/// The usual device at an I/O port.
pub fn port(vmm: Vmm, port: u16) -> Option<Guess> {
    find(map(vmm).ports, port.into())
}

/// The usual device at a guest-physical address.
pub fn memory(vmm: Vmm, address: u64) -> Option<Guess> {
    find(map(vmm).memory, address)
}

fn find(rows: &[WellKnownRow], address: u64) -> Option<Guess> {
    let end_row = rows.partition_point(|(start, ..)| *start <= address);
    let (start, end, offset, name) = *rows[..end_row].last()?;
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
    fn well_known_rows_are_sorted_and_disjoint() {
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
    fn guess_is_displayed_with_question_mark() {
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
