//! Names of CPUID leaves. Linux has constants for few of them. The others have its descriptions
//! from arch/x86/include/asm/cpuid/leaf_types.h, Linux 7.3, shortened to fit a column; those of
//! hypervisors are from uapi/asm/kvm_para.h and include/hyperv/hvgdk_mini.h.

#[rustfmt::skip]
const LEAVES: &[(u32, &str)] = &[
    (0x0, "max leaf, CPU vendor"),
    (0x1, "family, model, features"),
    (0x2, "cache and TLB descriptors"),
    (0x4, "cache parameters"),
    (0x5, "MONITOR/MWAIT"),
    (0x6, "thermal and power"),
    (0x7, "extended features"),
    (0x9, "DCA"),
    (0xa, "PMU"),
    (0xb, "topology v1"),
    (0xd, "extended state"),
    (0xf, "RDT monitoring"),
    (0x10, "RDT allocation"),
    (0x12, "SGX"),
    (0x14, "Processor Trace"),
    (0x15, "TSC"),
    (0x16, "processor frequency"),
    (0x17, "SoC vendor"),
    (0x18, "TLB parameters"),
    (0x19, "key locker"),
    (0x1a, "hybrid CPU"),
    (0x1b, "PCONFIG"),
    (0x1c, "LBR"),
    (0x1d, "AMX tiles"),
    (0x1e, "AMX TMUL"),
    (0x1f, "topology v2"),
    (0x20, "HRESET"),
    (0x21, "TD"),
    (0x23, "ArchPerfmonExt"),
    (0x40000000, "max hypervisor leaf, vendor"),
    // KVM's leaves start here, or 0x100 later if the VM has Hyper-V's.
    (0x40000001, "KVM_CPUID_FEATURES or HYPERV_CPUID_INTERFACE"),
    (0x40000002, "HYPERV_CPUID_VERSION"),
    (0x40000003, "HYPERV_CPUID_FEATURES"),
    (0x40000004, "HYPERV_CPUID_ENLIGHTMENT_INFO"),
    (0x40000005, "HYPERV_CPUID_IMPLEMENT_LIMITS"),
    (0x40000007, "HYPERV_CPUID_CPU_MANAGEMENT_FEATURES"),
    (0x4000000a, "HYPERV_CPUID_NESTED_FEATURES"),
    (0x4000000c, "HYPERV_CPUID_ISOLATION_CONFIG"),
    (0x40000081, "HYPERV_CPUID_VIRT_STACK_INTERFACE"),
    (0x40000082, "HYPERV_CPUID_VIRT_STACK_PROPERTIES"),
    (0x40000100, "KVM_CPUID_SIGNATURE"),
    (0x40000101, "KVM_CPUID_FEATURES"),
    (0x80000000, "max extended leaf, CPU vendor"),
    (0x80000001, "extended CPU features"),
    (0x80000002, "brand string, bytes 0-15"),
    (0x80000003, "brand string, bytes 16-31"),
    (0x80000004, "brand string, bytes 32-47"),
    (0x80000005, "L1 cache and TLB"),
    (0x80000006, "L2/L3 cache and TLB"),
    (0x80000007, "power management, RAS"),
    (0x80000008, "capacity parameters"),
    (0x8000000a, "SVM"),
    (0x80000019, "TLB, 1 GB pages"),
    (0x8000001a, "instruction optimizations"),
    (0x8000001b, "IBS"),
    (0x8000001c, "LWP"),
    (0x8000001d, "AMD cache parameters"),
    (0x8000001e, "AMD topology"),
    (0x8000001f, "SME/SEV"),
    (0x80000020, "PQoS extended features"),
    (0x80000021, "AMD extended features 2"),
    (0x80000022, "AMD performance monitoring"),
    (0x80000023, "multi-key encrypted memory"),
    (0x80000026, "AMD extended topology"),
    (0xc0000000, "max Centaur leaf"),
    (0xc0000001, "Centaur extended features"),
];

/// Description of a leaf (EAX of the CPUID instruction).
pub fn name(leaf: u32) -> Option<&'static str> {
    super::find(LEAVES, leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuid_leaf_names_match_table() {
        super::super::assert_in_order(LEAVES);
        assert_eq!(name(0x15), Some("TSC"));
        assert_eq!(name(0x4000_0003), Some("HYPERV_CPUID_FEATURES"));
        assert_eq!(name(0x8000_0008), Some("capacity parameters"));
        assert_eq!((name(0x3), name(u32::MAX)), (None, None));
    }
}
