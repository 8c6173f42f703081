//! Numbered MSRs of Intel and AMD: arch/x86/include/asm/msr-index.h, perf_event.h and mce.h, and
//! uapi/asm/mtrr.h, Linux 7.3. Their number depends on the processor; a series ends no later than
//! where another MSR begins.

use super::Series;

#[rustfmt::skip]
pub(super) const SERIES: &[Series] = &[
    Series::new(0xc1, 1, 8, "ARCH_PERFMON_PERFCTR", ""),
    Series::new(0x186, 1, 8, "ARCH_PERFMON_EVENTSEL", ""),
    Series::new(0x200, 2, 8, "MTRRphysBase", ""),
    Series::new(0x201, 2, 8, "MTRRphysMask", ""),
    Series::new(0x280, 1, 32, "IA32_MC", "_CTL2"),
    Series::new(0x309, 1, 4, "CORE_PERF_FIXED_CTR", ""),
    Series::new(0x400, 4, 32, "IA32_MC", "_CTL"),
    Series::new(0x401, 4, 32, "IA32_MC", "_STATUS"),
    Series::new(0x402, 4, 32, "IA32_MC", "_ADDR"),
    Series::new(0x403, 4, 32, "IA32_MC", "_MISC"),
    Series::new(0x4c1, 1, 8, "IA32_PMC", ""),
    Series::new(0x680, 1, 16, "LBR_NHM_FROM_", ""),
    Series::new(0x6c0, 1, 16, "LBR_NHM_TO_", ""),
    Series::new(0xdc0, 1, 32, "LBR_INFO_", ""),
    Series::new(0x1200, 1, 32, "ARCH_LBR_INFO_", ""),
    Series::new(0x1309, 1, 4, "RELOAD_FIXED_CTR", ""),
    Series::new(0x14c1, 1, 8, "RELOAD_PMC", ""),
    Series::new(0x1500, 1, 32, "ARCH_LBR_FROM_", ""),
    Series::new(0x1600, 1, 32, "ARCH_LBR_TO_", ""),
    Series::new(0x1900, 4, 8, "IA32_PMC_V6_GP", "_CTR"),
    Series::new(0x1901, 4, 8, "IA32_PMC_V6_GP", "_CFG_A"),
    Series::new(0x1902, 4, 8, "IA32_PMC_V6_GP", "_CFG_B"),
    Series::new(0x1903, 4, 8, "IA32_PMC_V6_GP", "_CFG_C"),
    Series::new(0x1980, 4, 4, "IA32_PMC_V6_FX", "_CTR"),
    Series::new(0x1982, 4, 4, "IA32_PMC_V6_FX", "_CFG_B"),
    Series::new(0x1983, 4, 4, "IA32_PMC_V6_FX", "_CFG_C"),
    Series::new(0xc0002000, 16, 64, "AMD64_SMCA_MC", "_CTL"),
    Series::new(0xc0002001, 16, 64, "AMD64_SMCA_MC", "_STATUS"),
    Series::new(0xc0002002, 16, 64, "AMD64_SMCA_MC", "_ADDR"),
    Series::new(0xc0002003, 16, 64, "AMD64_SMCA_MC", "_MISC0"),
    Series::new(0xc0002004, 16, 64, "AMD64_SMCA_MC", "_CONFIG"),
    Series::new(0xc0002005, 16, 64, "AMD64_SMCA_MC", "_IPID"),
    Series::new(0xc0002006, 16, 64, "AMD64_SMCA_MC", "_SYND"),
    Series::new(0xc0002008, 16, 64, "AMD64_SMCA_MC", "_DESTAT"),
    Series::new(0xc0002009, 16, 64, "AMD64_SMCA_MC", "_DEADDR"),
    Series::new(0xc000200a, 16, 64, "AMD64_SMCA_MC", "_MISC1"),
    Series::new(0xc000200e, 16, 64, "AMD64_SMCA_MC", "_SYND1"),
    Series::new(0xc000200f, 16, 64, "AMD64_SMCA_MC", "_SYND2"),
    Series::new(0xc0010200, 2, 6, "F15H_PERF_CTL", ""),
    Series::new(0xc0010201, 2, 6, "F15H_PERF_CTR", ""),
];
