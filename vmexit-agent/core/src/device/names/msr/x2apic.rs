//! Names of the local APIC's registers as MSRs, from 0x800 (APIC_BASE_MSR) on: 16 bytes of register
//! offset per MSR. arch/x86/include/asm/apicdef.h, Linux 7.3; `X2APIC_ICR` is its `APIC_ICR`.

use super::Series;

#[rustfmt::skip]
pub(super) const MSRS: &[(u32, &str)] = &[
    (0x802, "X2APIC_ID"),
    (0x803, "X2APIC_LVR"),
    (0x808, "X2APIC_TASKPRI"),
    (0x80a, "X2APIC_PROCPRI"),
    (0x80b, "X2APIC_EOI"),
    (0x80d, "X2APIC_LDR"),
    (0x80f, "X2APIC_SPIV"),
    (0x828, "X2APIC_ESR"),
    (0x82f, "X2APIC_LVTCMCI"),
    (0x830, "X2APIC_ICR"),
    (0x832, "X2APIC_LVTT"),
    (0x833, "X2APIC_LVTTHMR"),
    (0x834, "X2APIC_LVTPC"),
    (0x835, "X2APIC_LVT0"),
    (0x836, "X2APIC_LVT1"),
    (0x837, "X2APIC_LVTERR"),
    (0x838, "X2APIC_TMICT"),
    (0x839, "X2APIC_TMCCT"),
    (0x83e, "X2APIC_TDCR"),
    (0x83f, "X2APIC_SELF_IPI"),
];

/// Registers of 256 bits, 32 per MSR.
#[rustfmt::skip]
pub(super) const SERIES: &[Series] = &[
    Series::new(0x810, 1, 8, "X2APIC_ISR", ""),
    Series::new(0x818, 1, 8, "X2APIC_TMR", ""),
    Series::new(0x820, 1, 8, "X2APIC_IRR", ""),
];
