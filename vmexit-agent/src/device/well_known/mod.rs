//! What a port or guest-physical address usually is, for VMs that can't be asked: where PCs have had
//! things for decades, and where each VMM puts its own. A guest can move most of it, so every answer
//! is a [`Guess`]; where there is a monitor, its answer ([`mtree`](super::mtree)) is the one to show.

mod other_vmms;
mod qemu;

use std::fmt;

/// A program that runs VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU's PCs, `pc` and `q35`, with SeaBIOS or OVMF.
    Qemu,
    /// AWS's Firecracker.
    Firecracker,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// ChromeOS's crosvm.
    Crosvm,
}

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
type Row = (u64, u64, u64, &'static str);

/// Both address spaces; rows by address.
#[derive(Clone, Copy)]
struct Map {
    ports: &'static [Row],
    memory: &'static [Row],
}

impl Vmm {
    /// By a process's name in `/proc/PID/comm`, which has at most 15 bytes.
    pub fn of_command(comm: &str) -> Option<Self> {
        match comm {
            "firecracker" => Some(Self::Firecracker),
            "cloud-hyperviso" => Some(Self::CloudHypervisor),
            "crosvm" => Some(Self::Crosvm),
            "kvm" => Some(Self::Qemu),
            _ => comm.starts_with("qemu-").then_some(Self::Qemu),
        }
    }

    const fn map(self) -> Map {
        match self {
            Self::Qemu => qemu::MAP,
            Self::Firecracker => other_vmms::FIRECRACKER,
            Self::CloudHypervisor => other_vmms::CLOUD_HYPERVISOR,
            Self::Crosvm => other_vmms::CROSVM,
        }
    }
}

/// What usually is at an I/O port. Of a VMM that nobody knows QEMU's are guessed: most of them are
/// any PC's.
pub fn port(vmm: Option<Vmm>, port: u16) -> Option<Guess> {
    find(vmm.unwrap_or(Vmm::Qemu).map().ports, port.into())
}

/// What usually is at a guest-physical address; as for [`port`].
pub fn memory(vmm: Option<Vmm>, address: u64) -> Option<Guess> {
    find(vmm.unwrap_or(Vmm::Qemu).map().memory, address)
}

fn find(rows: &[Row], address: u64) -> Option<Guess> {
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
            for rows in [vmm.map().ports, vmm.map().memory] {
                assert!(rows.iter().all(|(start, end, ..)| start <= end), "{vmm:?}");
                for pair in rows.windows(2) {
                    assert!(pair[0].1 < pair[1].0, "{vmm:?}: {:x?}", pair[1]);
                }
            }
            assert!(vmm.map().ports.iter().all(|row| row.1 <= 0xffff), "{vmm:?}");
        }
    }

    #[test]
    fn guesses_show_that_they_are() {
        let text = |guess: Option<Guess>| guess.map(|guess| guess.to_string());
        assert_eq!(text(port(None, 0x608)).as_deref(), Some("acpi-tmr?"));
        assert_eq!(text(port(Some(Vmm::Firecracker), 0x608)), None);
        assert_eq!(text(port(Some(Vmm::CloudHypervisor), 0x60b)).as_deref(), Some("acpi-tmr?"));
        assert_eq!(port(None, 0x5800), None);
        assert_eq!(memory(None, 0xfed0_00f0), Some(Guess { name: "hpet", offset: 0xf0 }));
        assert_eq!(memory(None, 0xfed0_0400), None);
        assert_eq!(port(None, 0x71), Some(Guess { name: "rtc", offset: 1 }));
        assert_eq!((memory(None, 0), memory(None, u64::MAX)), (None, None));
    }

    #[test]
    fn vmms_by_process_name() {
        assert_eq!(Vmm::of_command("qemu-system-x86"), Some(Vmm::Qemu));
        assert_eq!(Vmm::of_command("cloud-hyperviso"), Some(Vmm::CloudHypervisor));
        assert_eq!(Vmm::of_command("lkvm"), None);
    }
}
