//! A guest without firmware or kernel, all of whose exits are known in advance.
//!
//! Its input is the numbers of exits per round. It yields a ROM for `qemu-system-x86_64 -bios` and, for any number
//! of rounds, the exact counts that a correct observer must report.

use super::{
    clock::GuestClock,
    expected::{
        Expected, PortAccesses, PortDirection,
        address::{
            APIC_BASE, BAR, DEBUG_EXIT, EFER, HPET_COUNTER, PCI_ADDRESS, PCI_DATA, PIC_MASK,
            PM_TIMER, RTC_DATA, RTC_INDEX, SERIAL, STRING_IN, STRING_OUT, X2APIC_EOI, X2APIC_LINT0,
            X2APIC_SPURIOUS, X2APIC_TIMER, X2APIC_TIMER_COUNT, X2APIC_TIMER_DIVIDE,
        },
    },
    rom::{self, Slot},
};

/// Action of a guest after its last round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtEnd {
    /// One HLT that no interrupt ends. QEMU goes on running.
    #[default]
    Halt,
    /// One OUT to `isa-debug-exit`. QEMU exits inside it, always with status 1.
    PowerOff,
}

/// Numbers of exits of each kind per round. A round ends with a dot on the serial port.
/// [`BareGuest::expected`] has the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BareGuest {
    /// Number of rounds; 0 for an endless guest.
    pub rounds: u32,
    /// 4-byte IN from the ACPI PM timer, port 0x608.
    pub pm_timer_in: u32,
    /// 1-byte OUT to the RTC's index port 0x70.
    pub rtc_out: u32,
    /// 1-byte IN from the RTC's data port 0x71.
    pub rtc_in: u32,
    /// 1-byte OUT to the RTC's data port 0x71 (an unused byte of CMOS RAM).
    pub rtc_data_out: u32,
    /// CPUID, leaf 0.
    pub cpuid: u32,
    /// RDMSR of `IA32_APIC_BASE`, which KVM intercepts on every CPU.
    pub msr_read: u32,
    /// HLT of some 100 µs, ended by the x2APIC timer. Each comes with two WRMSR: one starts the timer, the other
    /// ends its interrupt. QEMU's CPU model must have `x2apic`.
    pub hlt: u32,
    /// 4-byte read of the HPET's main counter at 0xfed000f0.
    pub hpet_read: u32,
    /// 4-byte read of the first register of a modern virtio device in slot 5 (see [`Qemu::VIRTIO`](super::Qemu::VIRTIO)).
    pub bar_read: u32,
    /// 1-byte IN from each of so many ports, from 0x5001 on. It fills a table of rows.
    pub port_sweep: u32,
    /// 1-byte IN from each of so many ports, from 0x5001 on, once before the first round. It fills a table of rows
    /// like a boot does.
    pub boot_sweep: u32,
    /// One `rep outsb` of so many bytes to port 0x5800, which has no device. [`BareGuest::per_round`] says which
    /// exits string instructions make.
    pub string_out: u32,
    /// One `rep insb` of so many bytes from port 0x5801, which has no device; at most 1,024.
    pub string_in: u32,
    /// One `rep outsb` of so many bytes to port 0xa1, a device of KVM; at most 1,024.
    pub string_out_pic: u32,
    /// Iterations of a loop that makes no exit.
    pub compute: u32,
    /// Whether the guest reads the TSC before and after each IN from the PM timer and each CPUID, and prints the
    /// smallest differences of the round after its dot: see [`GuestClock`].
    pub clock: bool,
    /// Action after the last round.
    pub at_end: AtEnd,
}

impl BareGuest {
    /// An endless mix for demonstrations: mostly reads of the PM timer, and some of all other exits of an idle
    /// desktop guest.
    pub const fn demo() -> Self {
        Self {
            rounds: 0,
            pm_timer_in: 100,
            rtc_out: 10,
            rtc_in: 10,
            rtc_data_out: 0,
            cpuid: 10,
            msr_read: 4,
            hlt: 2,
            hpet_read: 0,
            bar_read: 0,
            port_sweep: 0,
            boot_sweep: 0,
            string_out: 0,
            string_in: 0,
            string_out_pic: 0,
            compute: 0,
            clock: false,
            at_end: AtEnd::Halt,
        }
    }

    /// Every kind of exit, each in a different number, so that kinds that are mixed up are noticed.
    pub const fn sampler() -> Self {
        Self {
            rounds: 0,
            pm_timer_in: 13,
            rtc_out: 11,
            rtc_in: 9,
            rtc_data_out: 8,
            cpuid: 7,
            msr_read: 6,
            hlt: 3,
            hpet_read: 5,
            bar_read: 0,
            port_sweep: 2,
            boot_sweep: 0,
            string_out: 15,
            string_in: 17,
            string_out_pic: 19,
            compute: 0,
            clock: true,
            at_end: AtEnd::Halt,
        }
    }

    /// Reads of the PM timer only, as by an old Windows guest that uses it as its clock.
    pub const fn pm_timer(per_round: u32) -> Self {
        Self {
            pm_timer_in: per_round,
            rtc_out: 0,
            rtc_in: 0,
            cpuid: 0,
            msr_read: 0,
            hlt: 0,
            ..Self::demo()
        }
    }

    /// The port accesses of a boot: 300 ports once, and then a few again and again.
    pub const fn boot() -> Self {
        Self { boot_sweep: 300, rtc_out: 3, ..Self::pm_timer(20) }
    }

    /// The same guest with this number of rounds; 0 for an endless one.
    pub const fn rounds(self, rounds: u32) -> Self {
        Self { rounds, ..self }
    }

    /// The same guest with this action after its last round.
    pub const fn at_end(self, at_end: AtEnd) -> Self {
        Self { at_end, ..self }
    }

    /// The same guest without HLTs. It needs no x2APIC and writes no APIC register.
    pub const fn without_hlt(self) -> Self {
        Self { hlt: 0, ..self }
    }

    /// Contents of the ROM file for QEMU's `-bios`.
    pub fn rom(&self) -> Vec<u8> {
        let mut bytes = rom::blank();
        for (slot, value) in self.parameters() {
            rom::set(&mut bytes, slot, value);
        }
        bytes
    }

    fn parameters(&self) -> [(Slot, u32); 18] {
        [
            (Slot::Rounds, self.rounds),
            (Slot::PmTimerIn, self.pm_timer_in),
            (Slot::RtcOut, self.rtc_out),
            (Slot::RtcIn, self.rtc_in),
            (Slot::RtcDataOut, self.rtc_data_out),
            (Slot::Cpuid, self.cpuid),
            (Slot::MsrRead, self.msr_read),
            (Slot::Hlt, self.hlt),
            (Slot::HpetRead, self.hpet_read),
            (Slot::BarRead, self.bar_read),
            (Slot::PortSweep, self.port_sweep),
            (Slot::BootSweep, self.boot_sweep),
            (Slot::StringOut, self.string_out),
            (Slot::StringIn, self.string_in),
            (Slot::StringOutPic, self.string_out_pic),
            (Slot::Compute, self.compute),
            (Slot::Clock, self.clock.into()),
            (Slot::PowerOff, u32::from(self.at_end == AtEnd::PowerOff)),
        ]
    }

    /// Exits that are known after `rounds` complete rounds: those of the [set-up](Self::setup), of that many
    /// [rounds](Self::per_round) and, if they were the guest's last, of its [end](Self::end).
    ///
    /// These exits can't be known and are not included:
    ///
    /// - external interrupts: those of the host, and those that kick the vCPU out of the guest
    /// - interrupt windows, which a timer opens that fires before its HLT
    /// - page faults on RAM and ROM: one or more per region, depending on how the host maps it
    /// - control register accesses of the set-up
    /// - preemption timers
    ///
    /// MMIO is exact by address. Its exit *reason* is `npf` on AMD; Intel reports the first access as an EPT
    /// violation and later ones as EPT misconfigurations. With APICv or AVIC the EOI writes make no exit. AMD CPUs
    /// with idle-HLT make no exit for a HLT whose interrupt is already pending.
    ///
    /// An emulated CPU may deliver the interrupt just before the HLT. The guest then prints a dash instead, and the
    /// counts are still exact: see [`Expected::with_missed_hlts`].
    ///
    /// `kvm_pio`, `kvm_msr` and `kvm_cpuid` fire once per exit, except for string instructions. `kvm_mmio` fires
    /// twice for a read that userspace answers, as `unsatisfied-read` and as `read`. Not every exit reaches
    /// userspace: QEMU has KVM collect the writes to port 0x70.
    pub fn expected(&self, rounds: u64) -> Expected {
        let mut sum = self.setup();
        sum += self.per_round() * rounds;
        if self.rounds != 0 && rounds >= u64::from(self.rounds) {
            sum += self.end();
        }
        sum
    }

    /// Exits before the first round: one WRMSR of EFER, and the set-up for each kind of exit in the round:
    ///
    /// - `pm_timer_in`: 3 OUT to 0xcf8, 1 IN from 0xcfc, 2 OUT to 0xcfc (all of 4 bytes): reads
    ///   which host bridge there is, and sets the port of the timer.
    /// - `bar_read`: 2 OUT to 0xcf8 and 2 to 0xcfc: sets the address of the device.
    /// - `rtc_data_out`: 1 OUT to 0x70.
    /// - `boot_sweep`: 1 IN from each of so many ports.
    /// - `hlt`: 1 WRMSR each of 0x1b, 0x80f, 0x835, 0x832 and 0x83e.
    pub fn setup(&self) -> Expected {
        let mut setup = sweep(Expected::default().write_msr(EFER, 1), self.boot_sweep);
        if self.pm_timer_in > 0 {
            setup = setup
                .port(PCI_ADDRESS, PortDirection::Out, 3)
                .port(PCI_DATA, PortDirection::In, 1)
                .port(PCI_DATA, PortDirection::Out, 2);
        }
        if self.bar_read > 0 {
            setup = setup.port(PCI_ADDRESS, PortDirection::Out, 2).port(
                PCI_DATA,
                PortDirection::Out,
                2,
            );
        }
        if self.rtc_data_out > 0 {
            setup = setup.port(RTC_INDEX, PortDirection::Out, 1);
        }
        if self.hlt > 0 {
            setup = setup
                .write_msr(APIC_BASE, 1)
                .write_msr(X2APIC_SPURIOUS, 1)
                .write_msr(X2APIC_LINT0, 1)
                .write_msr(X2APIC_TIMER, 1)
                .write_msr(X2APIC_TIMER_DIVIDE, 1);
        }
        setup
    }

    /// Exits of one round, including its dot.
    ///
    /// KVM emulates string instructions (`handle_io`, arch/x86/kvm/vmx/vmx.c; `io_interception`,
    /// arch/x86/kvm/svm/svm.c). The exits depend on the direction and on where the device is:
    ///
    /// - INS: KVM reads ahead up to 1,024 bytes, and not past the end of the page (`pio_in_emulated`,
    ///   arch/x86/kvm/emulate.c). That is one exit, and one `kvm_pio` with that count. The guest's buffer
    ///   begins at a page boundary.
    /// - OUTS: KVM emulates one element at a time (`em_out`), with a `kvm_pio` of count 1 each. With a device of
    ///   KVM, one exit covers up to 1,024 elements (`x86_emulate_insn`). With a device of QEMU, the guest restarts
    ///   the instruction after each element, which makes the next exit (`x86_emulate_instruction`,
    ///   arch/x86/kvm/x86.c: the instruction pointer has not moved on).
    ///
    /// The guest restarts the instruction after its last element too, with a count of 0, because KVM checks the
    /// count before an element, not after it. That makes one more exit in both labs, without a `kvm_pio`: their
    /// CPUs check for an exit before they check the count (`gen_ins` after `gen_check_io`,
    /// target/i386/tcg/translate.c of QEMU; `REP_INSB_YbDX` and `allow_io`, cpu/io.cc of Bochs).
    pub fn per_round(&self) -> Expected {
        let mut round = Expected {
            cpuid: u64::from(self.cpuid),
            hlt: u64::from(self.hlt),
            string_ends: [self.string_out, self.string_in, self.string_out_pic]
                .map(|elements| u64::from(elements > 0))
                .iter()
                .sum(),
            ..Expected::default()
        };
        round = sweep(round, self.port_sweep);
        let string_in = PortAccesses { exits: 1, events: 1, elements: self.string_in.into() };
        let of_pic = u64::from(self.string_out_pic);
        let string_out_pic = PortAccesses { exits: 1, events: of_pic, elements: of_pic };
        if self.string_in > 0 {
            round = round.string(STRING_IN, PortDirection::In, string_in);
        }
        if self.string_out_pic > 0 {
            round = round.string(PIC_MASK, PortDirection::Out, string_out_pic);
        }
        let printed = if self.clock { 1 + GuestClock::PRINTED } else { 1 };
        round
            .port(STRING_OUT, PortDirection::Out, self.string_out.into())
            .port(PM_TIMER, PortDirection::In, self.pm_timer_in.into())
            .port(RTC_INDEX, PortDirection::Out, self.rtc_out.into())
            .port(RTC_DATA, PortDirection::In, self.rtc_in.into())
            .port(RTC_DATA, PortDirection::Out, self.rtc_data_out.into())
            .port(SERIAL, PortDirection::Out, printed)
            .read_mmio(HPET_COUNTER, self.hpet_read.into())
            .read_mmio(BAR, self.bar_read.into())
            .read_msr(APIC_BASE, self.msr_read.into())
            .write_msr(X2APIC_TIMER_COUNT, self.hlt.into())
            .write_msr(X2APIC_EOI, self.hlt.into())
    }

    /// Exits after the last round: one HLT, or one OUT to 0xf4. No entry follows either of them while QEMU runs,
    /// so an observer that counts complete pairs of exit and entry has one less.
    pub fn end(&self) -> Expected {
        match self.at_end {
            AtEnd::Halt => Expected { hlt: 1, ..Expected::default() },
            AtEnd::PowerOff => Expected::default().port(DEBUG_EXIT, PortDirection::Out, 1),
        }
    }
}

/// Adds one IN from each of so many ports.
fn sweep(expected: Expected, ports: u32) -> Expected {
    (1..=ports).fold(expected, |expected, port| {
        expected.port(rom::SWEEP_BASE + port as u16, PortDirection::In, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rom: &[u8], slot: Slot) -> u32 {
        let at = slot as usize;
        u32::from_le_bytes(rom[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn rom_parameters_change_only_their_slots() {
        let guest = BareGuest {
            rounds: 0x0102_0304,
            bar_read: 4,
            boot_sweep: 6,
            compute: 8,
            ..BareGuest::sampler()
        };
        let guest = guest.at_end(AtEnd::PowerOff);
        let rom = guest.rom();
        for (slot, value) in guest.parameters() {
            assert_ne!(value, 0, "{slot:?} proves nothing");
            assert_eq!(read(&rom, slot), value, "{slot:?}");
        }
        assert_eq!(rom[rom::CODE..], rom::blank()[rom::CODE..]);
        assert_eq!(BareGuest::default().rom(), rom::blank());
    }

    #[test]
    fn expected_adds_setup_rounds_and_end() {
        use PortDirection::{In, Out};
        let guest = BareGuest::demo().rounds(50);
        let whole = guest.expected(50);
        assert_eq!(whole.ports[&(PM_TIMER, In)], PortAccesses::single(5_000));
        assert_eq!(whole.ports[&(RTC_INDEX, Out)], PortAccesses::single(500));
        assert_eq!(whole.ports[&(RTC_DATA, In)], PortAccesses::single(500));
        assert_eq!(whole.ports[&(SERIAL, Out)], PortAccesses::single(50));
        assert_eq!(whole.io(), 5_000 + 500 + 500 + 50 + 6);
        assert_eq!((whole.cpuid, whole.hlt), (500, 101));
        assert_eq!(whole.msr_reads[&APIC_BASE], 200);
        assert_eq!(whole.msr_writes[&X2APIC_EOI], 100);
        assert_eq!(whole.msr_writes[&X2APIC_TIMER_COUNT], 100);
        assert_eq!(whole.msr(), 200 + 200 + 6);

        assert_eq!(guest.expected(49).hlt, 98, "the end comes with the last round only");
        assert_eq!(BareGuest::demo().expected(50).hlt, 100, "or never");
        assert_eq!(guest.at_end(AtEnd::PowerOff).expected(50).hlt, 100);
        assert_eq!(guest.at_end(AtEnd::PowerOff).expected(50).ports[&(DEBUG_EXIT, Out)].exits, 1);
    }

    #[test]
    fn setup_covers_only_needs_of_the_round() {
        let dots = BareGuest::default();
        assert_eq!(dots.setup(), Expected::default().write_msr(EFER, 1));
        assert_eq!(dots.per_round(), Expected::default().port(SERIAL, PortDirection::Out, 1));
        assert_eq!(BareGuest::pm_timer(7).setup().io(), 6);
        assert_eq!(BareGuest::pm_timer(7).per_round().io(), 8);
        assert_eq!(BareGuest::demo().without_hlt().setup().msr(), 1);
        assert_eq!(BareGuest::sampler().setup().total(), 1 + 6 + 1 + 5);
    }

    #[test]
    fn string_access_is_one_exit_except_writes_to_qemu() {
        let (of, round) = (BareGuest::sampler(), BareGuest::sampler().per_round());
        let string = |exits, events, elements: u32| PortAccesses {
            exits,
            events,
            elements: elements.into(),
        };
        assert_eq!(round.ports[&(STRING_IN, PortDirection::In)], string(1, 1, of.string_in));
        assert_eq!(round.ports[&(STRING_OUT, PortDirection::Out)], string(15, 15, of.string_out));
        assert_eq!(round.ports[&(PIC_MASK, PortDirection::Out)], string(1, 19, of.string_out_pic));
        assert_eq!(round.string_ends, 3);
        assert_eq!(BareGuest::demo().per_round().string_ends, 0);
    }
}
