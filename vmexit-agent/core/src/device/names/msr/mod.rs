//! Linux's names of model-specific registers, without the prefix `MSR_`: `IA32_TSC_DEADLINE`,
//! `HV_X64_MSR_TIME_REF_COUNT`, `KVM_SYSTEM_TIME_NEW`.

mod amd;
mod hyperv;
mod intel;
mod kvm;
mod series;
mod x2apic;

use std::borrow::Cow;

const TABLES: &[&[(u32, &str)]] = &[intel::MSRS, amd::MSRS, kvm::MSRS, hyperv::MSRS, x2apic::MSRS];
const SERIES: &[&[Series]] = &[series::SERIES, x2apic::SERIES];

/// Numbered registers: number N, from 0, is at `first + N * step`; its name is `before`, N,
/// `after`.
struct Series {
    first: u32,
    step: u32,
    count: u32,
    before: &'static str,
    after: &'static str,
}

/// Linux's name of an MSR; `None` if no table has it.
pub fn name(msr: u32) -> Option<Cow<'static, str>> {
    let exact = TABLES.iter().find_map(|table| super::find(table, msr));
    let numbered = || SERIES.iter().copied().flatten().find_map(|series| series.name(msr));
    exact.map(Cow::Borrowed).or_else(|| numbered().map(Cow::Owned))
}

/// Whether this is one of Hyper-V's MSRs, which KVM emulates.
pub(crate) fn is_hyperv(msr: u32) -> bool {
    super::find(hyperv::MSRS, msr).is_some()
}

/// Whether this is one of KVM's own MSRs.
pub(crate) fn is_kvm(msr: u32) -> bool {
    super::find(kvm::MSRS, msr).is_some()
}

impl Series {
    const fn new(
        first: u32,
        step: u32,
        count: u32,
        before: &'static str,
        after: &'static str,
    ) -> Self {
        Self { first, step, count, before, after }
    }

    fn name(&self, msr: u32) -> Option<String> {
        let distance = msr.checked_sub(self.first)?;
        let number = distance / self.step;
        let is_member = distance % self.step == 0 && number < self.count;
        is_member.then(|| format!("{}{number}{}", self.before, self.after))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn msr_tables_are_sorted() {
        for table in TABLES {
            super::super::assert_in_order(table);
        }
    }

    #[test]
    fn msr_names_and_numbers_are_unique() {
        let exact = TABLES.iter().copied().flatten().map(|(msr, name)| (*msr, (*name).to_owned()));
        let numbered = SERIES.iter().copied().flatten().flat_map(|series| {
            (0..series.count)
                .map(|number| series.first + number * series.step)
                .map(|msr| (msr, series.name(msr).unwrap()))
        });
        let (mut names, mut msrs) = (BTreeMap::new(), BTreeMap::new());
        for (msr, called) in exact.chain(numbered) {
            assert_eq!(name(msr).as_deref(), Some(called.as_str()), "{msr:#x}");
            assert_eq!(names.insert(msr, called.clone()), None, "{msr:#x}");
            assert_eq!(msrs.insert(called, msr), None, "{msr:#x}");
        }
    }

    #[test]
    fn msr_names_match_tables() {
        for (msr, expected) in [
            (0x10, "IA32_TSC"),
            (0x11, "KVM_WALL_CLOCK"),
            (0x6e0, "IA32_TSC_DEADLINE"),
            (0x207, "MTRRphysMask3"),
            (0x2ff, "MTRRdefType"),
            (0x409, "IA32_MC2_STATUS"),
            (0x47f, "IA32_MC31_MISC"),
            (0x480, "IA32_VMX_BASIC"),
            (0x80b, "X2APIC_EOI"),
            (0x817, "X2APIC_ISR7"),
            (0x830, "X2APIC_ICR"),
            (0x4000_0020, "HV_X64_MSR_TIME_REF_COUNT"),
            (0x4000_00b1, "HV_X64_MSR_STIMER0_COUNT"),
            (0x4b56_4d01, "KVM_SYSTEM_TIME_NEW"),
            (0xc000_0080, "EFER"),
            (0xc000_2011, "AMD64_SMCA_MC1_STATUS"),
            (0xc001_020b, "F15H_PERF_CTR5"),
        ] {
            assert_eq!(name(msr).as_deref(), Some(expected), "{msr:#x}");
        }
        assert_eq!((name(0x831), name(u32::MAX), name(0xc001_020c)), (None, None, None));
    }
}
