//! Machine code of the bare guest, assembled into this library by the compiler.
//!
//! `rom.s` becomes 64 KiB of read-only data without relocations. This module provides a copy of it with all
//! parameters zero, and the offsets of the parameters.

use std::arch::global_asm;

use super::expected::address;

/// Size of the ROM in bytes: one real-mode segment.
pub const ROM_SIZE: usize = 0x1_0000;

/// Offset of the reset vector: the last 16 bytes of the ROM.
pub(super) const RESET: usize = ROM_SIZE - 16;

/// Offset of the code. The parameters come before it.
pub(super) const CODE: usize = 0x100;

/// Initial count of the guest's APIC timer, which ends a HLT. KVM counts nanoseconds.
pub(super) const TIMER_COUNT: u32 = 100_000;

/// Port before the first one of a sweep. No machine has devices at those ports.
pub(super) const SWEEP_BASE: u16 = 0x5000;

/// Offsets of the parameters in the ROM. Each is a little-endian u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Slot {
    Rounds = 0x00,
    PmTimerIn = 0x04,
    RtcOut = 0x08,
    RtcIn = 0x0c,
    RtcDataOut = 0x10,
    Cpuid = 0x14,
    MsrRead = 0x18,
    Hlt = 0x1c,
    HpetRead = 0x20,
    PowerOff = 0x24,
    PortSweep = 0x28,
    StringOut = 0x2c,
    StringIn = 0x30,
    StringOutPic = 0x34,
    Clock = 0x38,
    BarRead = 0x3c,
    BootSweep = 0x40,
    Compute = 0x44,
}

global_asm!(
    include_str!("rom.s"),
    rounds = const Slot::Rounds as usize,
    pm_timer_in = const Slot::PmTimerIn as usize,
    rtc_out = const Slot::RtcOut as usize,
    rtc_in = const Slot::RtcIn as usize,
    rtc_data_out = const Slot::RtcDataOut as usize,
    cpuid = const Slot::Cpuid as usize,
    msr_read = const Slot::MsrRead as usize,
    hlt = const Slot::Hlt as usize,
    hpet_read = const Slot::HpetRead as usize,
    bar_read = const Slot::BarRead as usize,
    bar = const address::BAR,
    port_sweep = const Slot::PortSweep as usize,
    boot_sweep = const Slot::BootSweep as usize,
    sweep_base = const SWEEP_BASE,
    string_out = const Slot::StringOut as usize,
    string_in = const Slot::StringIn as usize,
    string_out_pic = const Slot::StringOutPic as usize,
    string_out_port = const address::STRING_OUT,
    string_in_port = const address::STRING_IN,
    pic_port = const address::PIC_MASK,
    clock = const Slot::Clock as usize,
    compute = const Slot::Compute as usize,
    power_off = const Slot::PowerOff as usize,
    code = const CODE,
    timer_count = const TIMER_COUNT,
    reset = const RESET,
    size = const ROM_SIZE,
    options(att_syntax)
);

unsafe extern "C" {
    static vmexit_bare_guest_rom: [u8; ROM_SIZE];
}

/// A copy of the ROM with all parameters zero.
pub(super) fn blank() -> Vec<u8> {
    // SAFETY: rom.s defines the symbol in read-only data. Its last `.org` makes the section `ROM_SIZE` bytes long
    // from there, or it would not have assembled. Nothing writes to it.
    let rom = unsafe { &vmexit_bare_guest_rom };
    rom.to_vec()
}

/// Writes one parameter.
pub(super) fn set(rom: &mut [u8], slot: Slot, value: u32) {
    let at = slot as usize;
    rom[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rom_is_64_kib_and_starts_with_zero_parameters() {
        let rom = blank();
        assert_eq!(rom.len(), 65_536);
        assert!(rom[..CODE].iter().all(|&byte| byte == 0));
        assert_eq!(rom[CODE], 0xfa, "the code begins with CLI");
    }

    #[test]
    fn reset_vector_jumps_to_the_code() {
        // JMP FAR F000:0100 in 16-bit code: the segment that shows this ROM, at the code's offset.
        let [low, high] = (CODE as u16).to_le_bytes();
        assert_eq!(blank()[RESET..RESET + 5], [0xea, low, high, 0x00, 0xf0]);
    }
}
