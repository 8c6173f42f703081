//! Exact counts that an observer of a bare guest must report.
//!
//! An [`Expected`] holds sums of exits by kind and address. Tests compare it with the counts for equality. It is
//! the sum of three parts: set-up, rounds and end.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Mul, MulAssign},
};

/// Ports, addresses and MSRs that a bare guest uses.
pub mod address {
    /// RTC index port.
    pub const RTC_INDEX: u16 = 0x70;
    /// RTC data port.
    pub const RTC_DATA: u16 = 0x71;
    /// Interrupt mask of the second 8259, a device in KVM itself.
    pub const PIC_MASK: u16 = 0xa1;
    /// `isa-debug-exit`: ends QEMU.
    pub const DEBUG_EXIT: u16 = 0xf4;
    /// Serial port: one dot per complete round, and the figures of the guest's clock.
    pub const SERIAL: u16 = 0x3f8;
    /// ACPI PM timer, at the port that the guest's set-up gives it.
    pub const PM_TIMER: u16 = 0x608;
    /// PCI configuration address.
    pub const PCI_ADDRESS: u16 = 0xcf8;
    /// PCI configuration data.
    pub const PCI_DATA: u16 = 0xcfc;

    /// Port of string OUT; no machine has a device there.
    pub const STRING_OUT: u16 = 0x5800;
    /// Port of string IN; no machine has a device there.
    pub const STRING_IN: u16 = 0x5801;

    /// HPET main counter, a guest physical address.
    pub const HPET_COUNTER: u64 = 0xfed0_00f0;

    /// Registers of a virtio device, at the guest physical address that the guest's set-up gives them.
    pub const BAR: u64 = 0xfebf_0000;

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

/// Direction of a port access, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortDirection {
    /// `IN`: the guest reads.
    In,
    /// `OUT`: the guest writes.
    Out,
}

/// Accesses to a port in one direction. All three counts are the same except for string instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortAccesses {
    /// Exits.
    pub exits: u64,
    /// `kvm_pio` events.
    pub events: u64,
    /// Elements read or written.
    pub elements: u64,
}

impl PortAccesses {
    /// Accesses by so many instructions that are not string instructions.
    pub const fn single(count: u64) -> Self {
        Self { exits: count, events: count, elements: count }
    }
}

impl AddAssign for PortAccesses {
    fn add_assign(&mut self, other: Self) {
        self.exits += other.exits;
        self.events += other.events;
        self.elements += other.elements;
    }
}

impl MulAssign<u64> for PortAccesses {
    fn mul_assign(&mut self, times: u64) {
        self.exits *= times;
        self.events *= times;
        self.elements *= times;
    }
}

/// Exact numbers of exits. The maps have no entries of zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// I/O by port and direction, without the exits in `string_ends`.
    pub ports: BTreeMap<(u16, PortDirection), PortAccesses>,
    /// I/O exits without an access: see [`super::BareGuest::per_round`].
    pub string_ends: u64,
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
    /// Number of I/O exits.
    pub fn io(&self) -> u64 {
        self.ports.values().map(|accesses| accesses.exits).sum::<u64>() + self.string_ends
    }

    /// Number of MMIO reads.
    pub fn mmio(&self) -> u64 {
        self.mmio_reads.values().sum()
    }

    /// Number of RDMSR and WRMSR exits.
    pub fn msr(&self) -> u64 {
        self.msr_reads.values().chain(self.msr_writes.values()).sum()
    }

    /// Number of all exits.
    pub fn total(&self) -> u64 {
        self.io() + self.mmio() + self.msr() + self.cpuid + self.hlt
    }

    /// Counts of a guest that missed so many HLTs and printed a dash for each on its serial port.
    #[must_use]
    pub fn with_missed_hlts(mut self, missed: u64) -> Self {
        self.hlt -= missed;
        self.port(address::SERIAL, PortDirection::Out, missed)
    }

    pub(super) fn port(self, port: u16, direction: PortDirection, count: u64) -> Self {
        self.string(port, direction, PortAccesses::single(count))
    }

    pub(super) fn string(
        mut self,
        port: u16,
        direction: PortDirection,
        accesses: PortAccesses,
    ) -> Self {
        if accesses.exits > 0 {
            *self.ports.entry((port, direction)).or_default() += accesses;
        }
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
        for (key, accesses) in other.ports {
            *self.ports.entry(key).or_default() += accesses;
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
        self.string_ends += other.string_ends;
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
        self.ports.values_mut().for_each(|accesses| *accesses *= rounds);
        let msrs = self.msr_reads.values_mut().chain(self.msr_writes.values_mut());
        for count in self.mmio_reads.values_mut().chain(msrs) {
            *count *= rounds;
        }
        self.string_ends *= rounds;
        self.cpuid *= rounds;
        self.hlt *= rounds;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_counts_add_and_multiply_by_key() {
        let round = Expected { cpuid: 2, hlt: 1, ..Expected::default() }
            .port(0x70, PortDirection::Out, 3)
            .port(0x71, PortDirection::In, 0)
            .read_mmio(0xfed0_00f0, 5)
            .read_msr(0x1b, 7)
            .write_msr(0x80b, 1);
        assert!(!round.ports.contains_key(&(0x71, PortDirection::In)), "nothing is not an entry");
        let mut sum = round.clone() * 10;
        sum +=
            Expected::default().port(0x70, PortDirection::Out, 1).port(0x70, PortDirection::In, 1);
        assert_eq!(sum.ports[&(0x70, PortDirection::Out)], PortAccesses::single(31));
        assert_eq!(sum.ports[&(0x70, PortDirection::In)], PortAccesses::single(1));
        assert_eq!((sum.io(), sum.mmio(), sum.msr(), sum.cpuid, sum.hlt), (32, 50, 80, 20, 10));
        assert_eq!(sum.total(), 192);
        let no_rounds = 0;
        assert_eq!(round * no_rounds, Expected::default());
    }

    #[test]
    fn string_access_counts_exits_events_and_elements() {
        let accesses = PortAccesses { exits: 1, events: 2, elements: 3 };
        let ends = Expected { string_ends: 4, ..Expected::default() };
        let round = ends.string(0x5801, PortDirection::In, accesses);
        let mut sum = round * 10;
        sum += Expected::default().port(0x5801, PortDirection::In, 1);
        let expected = PortAccesses { exits: 11, events: 21, elements: 31 };
        assert_eq!(sum.ports[&(0x5801, PortDirection::In)], expected);
        assert_eq!((sum.string_ends, sum.io(), sum.total()), (40, 51, 51));
    }
}
