//! What a bare guest must have made a counter show.
//!
//! An [`Expected`] is a plain sum of exits by kind and address: what a test compares, for equality,
//! with what was counted. It is built from three parts (set-up, rounds, end) that can be added.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Mul};

/// Ports, addresses and MSRs that a bare guest uses.
pub mod address {
    /// RTC index port.
    pub const RTC_INDEX: u16 = 0x70;
    /// RTC data port.
    pub const RTC_DATA: u16 = 0x71;
    /// `isa-debug-exit`: ends QEMU.
    pub const DEBUG_EXIT: u16 = 0xf4;
    /// Serial port: one dot for each complete round.
    pub const SERIAL: u16 = 0x3f8;
    /// ACPI PM timer, where the guest's set-up puts it.
    pub const PM_TIMER: u16 = 0x608;
    /// PCI configuration address.
    pub const PCI_ADDRESS: u16 = 0xcf8;
    /// PCI configuration data.
    pub const PCI_DATA: u16 = 0xcfc;

    /// HPET main counter, a guest physical address.
    pub const HPET_COUNTER: u64 = 0xfed0_00f0;

    /// `IA32_APIC_BASE`.
    pub const APIC_BASE: u32 = 0x1b;
    /// x2APIC end of interrupt.
    pub const X2APIC_EOI: u32 = 0x80b;
    /// x2APIC spurious interrupt vector.
    pub const X2APIC_SPURIOUS: u32 = 0x80f;
    /// x2APIC local vector table: timer.
    pub const X2APIC_TIMER: u32 = 0x832;
    /// x2APIC local vector table: LINT0.
    pub const X2APIC_LINT0: u32 = 0x835;
    /// x2APIC timer: initial count, starts the timer.
    pub const X2APIC_TIMER_COUNT: u32 = 0x838;
    /// x2APIC timer: divide configuration.
    pub const X2APIC_TIMER_DIVIDE: u32 = 0x83e;
    /// `IA32_EFER`.
    pub const EFER: u32 = 0xc000_0080;
}

/// Which way data goes, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// `IN`: the guest reads.
    In,
    /// `OUT`: the guest writes.
    Out,
}

/// Exact numbers of exits. Kinds that did not occur are absent from the maps, never zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// I/O exits by port and direction.
    pub ports: BTreeMap<(u16, Direction), u64>,
    /// MMIO reads by guest physical address.
    pub mmio_reads: BTreeMap<u64, u64>,
    /// CPUID exits.
    pub cpuid: u64,
    /// RDMSR exits by MSR.
    pub msr_reads: BTreeMap<u32, u64>,
    /// WRMSR exits by MSR.
    pub msr_writes: BTreeMap<u32, u64>,
    /// HLT exits.
    pub hlt: u64,
}

impl Expected {
    /// All I/O exits.
    pub fn io(&self) -> u64 {
        self.ports.values().sum()
    }

    /// All MMIO reads.
    pub fn mmio(&self) -> u64 {
        self.mmio_reads.values().sum()
    }

    /// All RDMSR and WRMSR exits.
    pub fn msr(&self) -> u64 {
        self.msr_reads.values().chain(self.msr_writes.values()).sum()
    }

    /// All exits that can be known, of every kind.
    pub fn total(&self) -> u64 {
        self.io() + self.mmio() + self.msr() + self.cpuid + self.hlt
    }

    /// The same for a guest that reported so many HLTs as missed, each by a dash on its serial port.
    #[must_use]
    pub fn with_missed_hlts(mut self, missed: u64) -> Self {
        self.hlt -= missed;
        self.port(address::SERIAL, Direction::Out, missed)
    }

    pub(super) fn port(mut self, port: u16, direction: Direction, count: u64) -> Self {
        add(&mut self.ports, (port, direction), count);
        self
    }

    pub(super) fn read_mmio(mut self, address: u64, count: u64) -> Self {
        add(&mut self.mmio_reads, address, count);
        self
    }

    pub(super) fn read_msr(mut self, msr: u32, count: u64) -> Self {
        add(&mut self.msr_reads, msr, count);
        self
    }

    pub(super) fn write_msr(mut self, msr: u32, count: u64) -> Self {
        add(&mut self.msr_writes, msr, count);
        self
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, count: u64) {
    if count > 0 {
        *counts.entry(key).or_default() += count;
    }
}

impl AddAssign for Expected {
    fn add_assign(&mut self, other: Self) {
        for (key, count) in other.ports {
            add(&mut self.ports, key, count);
        }
        for (key, count) in other.mmio_reads {
            add(&mut self.mmio_reads, key, count);
        }
        for (key, count) in other.msr_reads {
            add(&mut self.msr_reads, key, count);
        }
        for (key, count) in other.msr_writes {
            add(&mut self.msr_writes, key, count);
        }
        self.cpuid += other.cpuid;
        self.hlt += other.hlt;
    }
}

/// The same exits `rounds` times.
impl Mul<u64> for Expected {
    type Output = Self;

    fn mul(mut self, rounds: u64) -> Self {
        if rounds == 0 {
            return Self::default();
        }
        let counts = self.ports.values_mut().chain(self.mmio_reads.values_mut());
        for count in counts.chain(self.msr_reads.values_mut()).chain(self.msr_writes.values_mut()) {
            *count *= rounds;
        }
        self.cpuid *= rounds;
        self.hlt *= rounds;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_multiplies_by_key() {
        let round = Expected { cpuid: 2, hlt: 1, ..Expected::default() }
            .port(0x70, Direction::Out, 3)
            .port(0x71, Direction::In, 0)
            .read_mmio(0xfed0_00f0, 5)
            .read_msr(0x1b, 7)
            .write_msr(0x80b, 1);
        assert!(!round.ports.contains_key(&(0x71, Direction::In)), "nothing is not an entry");
        let mut sum = round.clone() * 10;
        sum += Expected::default().port(0x70, Direction::Out, 1).port(0x70, Direction::In, 1);
        assert_eq!(sum.ports[&(0x70, Direction::Out)], 31);
        assert_eq!(sum.ports[&(0x70, Direction::In)], 1);
        assert_eq!((sum.io(), sum.mmio(), sum.msr(), sum.cpuid, sum.hlt), (32, 50, 80, 20, 10));
        assert_eq!(sum.total(), 192);
        let no_rounds = 0;
        assert_eq!(round * no_rounds, Expected::default());
    }
}
