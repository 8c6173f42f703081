//! Interrupts: the host's, the guest's, and those between vCPUs.

use super::settings::{
    HV_IPI, HV_TLBFLUSH, HV_VAPIC, HV_VPINDEX, KVM_PV_EOI, KVM_PV_IPI, PINNED, X2APIC,
};
use crate::{
    finding::{Confidence, Least, Os, Pattern, Remedy, Rule},
    kind::Direction,
};

const HYPERV_RST: &str = "QEMU, docs/system/i386/hyperv.rst";
const HYPERCALLS: &str = "Linux, Documentation/virt/kvm/x86/hypercalls.rst";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "host-interrupts",
        title: "the host's interrupts end guest mode",
        sign: "exits EXTERNAL_INTERRUPT, or `interrupt` on AMD",
        patterns: &[Pattern::Exits(&["EXTERNAL_INTERRUPT", "interrupt"])],
        least: Least::PerVcpu(1_000.0),
        fine: Some("the host's own ticks, and what its devices ask for"),
        cause: "Whatever interrupts a CPU of the host while it runs a vCPU ends guest mode: its ticks, its \
                devices, timers of other guests.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Give the vCPUs CPUs of their own, and have interrupts go elsewhere.",
            settings: &[PINNED],
            inside: "On the host: isolcpus= or nohz_full= for these CPUs, /proc/irq/*/smp_affinity without them.",
        }],
        confidence: Confidence::Medium,
        sources: &["Linux, commit 0c5f81dad46c"],
    },
    Rule {
        id: "inter-processor-interrupts",
        title: "vCPUs interrupt each other",
        sign: "writes of MSRs 0x830 (X2APIC_ICR) and 0x40000071 (HV_X64_MSR_ICR), exits avic_incomplete_ipi",
        patterns: &[
            Pattern::Exits(&["avic_incomplete_ipi"]),
            Pattern::Msrs(0x830, 0x830, Direction::Write),
            Pattern::Msrs(0x4000_0071, 0x4000_0071, Direction::Write),
        ],
        least: Least::Cost,
        fine: None,
        cause: "To wake each other up or to flush their TLBs, vCPUs send interrupts by a register of the \
                APIC: an exit for each receiver, and one more there. It grows with the number of vCPUs.",
        remedies: &[
            Remedy {
                os: Os::Windows,
                action: "Offer Hyper-V's calls, which reach many vCPUs at once.",
                settings: &[HV_VPINDEX, HV_IPI, HV_TLBFLUSH],
                inside: "",
            },
            Remedy {
                os: Os::Linux,
                action: "Offer KVM's call, which reaches many vCPUs at once.",
                settings: &[KVM_PV_IPI],
                inside: "",
            },
            Remedy {
                os: Os::Unknown,
                action: "Let the CPU deliver them, where it can.",
                settings: &[],
                inside: "On the host: kvm_intel.enable_ipiv, from Linux 5.19 on; kvm_amd.avic=1.",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[HYPERV_RST, HYPERCALLS],
    },
    Rule {
        id: "end-of-interrupt",
        title: "the guest ends its interrupts by exits",
        sign: "exits EOI_INDUCED, writes of MSRs 0x80b (X2APIC_EOI) and 0x40000070 (HV_X64_MSR_EOI)",
        patterns: &[
            Pattern::Exits(&["EOI_INDUCED"]),
            Pattern::Msrs(0x80b, 0x80b, Direction::Write),
            Pattern::Msrs(0x4000_0070, 0x4000_0070, Direction::Write),
        ],
        least: Least::Cost,
        fine: None,
        cause: "Without APICv or AVIC each interrupt takes an exit more, when the guest is done with it. With \
                them only those do that come through the IOAPIC by level, and the RTC's.",
        remedies: &[
            Remedy {
                os: Os::Windows,
                action: "Offer the page by which interrupts are ended without an exit.",
                settings: &[HV_VAPIC],
                inside: "With hv-synic and a CPU that has APICv or AVIC, hv-avic=on (<avic state='on'/>) keeps \
                         that in use.",
            },
            Remedy {
                os: Os::Linux,
                action: "Offer to end interrupts without an exit.",
                settings: &[KVM_PV_EOI],
                inside: "",
            },
            Remedy {
                os: Os::Unknown,
                action: "Let the CPU do it, where it can, and take devices that interrupt by MSI.",
                settings: &[],
                inside: "On the host: /sys/module/kvm_intel/parameters/enable_apicv, or kvm_amd's avic.",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[HYPERV_RST, "Linux, Documentation/virt/kvm/x86/msr.rst (MSR_KVM_EOI_EN)"],
    },
    Rule {
        id: "xapic",
        title: "the guest reaches its APIC by memory",
        sign: "exits APIC_ACCESS, APIC_WRITE and avic_unaccelerated_access, accesses to `apic-msi` at \
               0xfee00000",
        patterns: &[
            Pattern::Exits(&["APIC_ACCESS", "APIC_WRITE", "avic_unaccelerated_access"]),
            Pattern::Device(&["apic-msi"]),
        ],
        least: Least::Cost,
        fine: None,
        cause: "As memory (xAPIC) the APIC's registers take KVM more work for each access than as MSRs \
                (x2APIC), and without APICv or AVIC all of them are exits.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Offer x2APIC, and let the CPU do what it can.",
            settings: &[X2APIC],
            inside: "In the guest: no nox2apic on Linux's command line; Windows: `bcdedit /deletevalue \
                     x2apicpolicy`. On the host: /sys/module/kvm_intel/parameters/enable_apicv, or kvm_amd's avic.",
        }],
        confidence: Confidence::Medium,
        sources: &["Intel SDM, volume 3, 30.4", "Linux, arch/x86/kvm/lapic.c"],
    },
];
