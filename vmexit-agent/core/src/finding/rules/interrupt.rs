//! Rules about interrupts: the host's, the guest's, and those between vCPUs.

use super::settings::{
    HV_IPI, HV_TLBFLUSH, HV_VAPIC, HV_VPINDEX, KVM_PV_EOI, KVM_PV_IPI, PINNED, X2APIC,
};
use crate::{
    finding::{Confidence, Os, Pattern, Remedy, Rule, Threshold},
    kind::Direction,
};

const HYPERV_RST: &str = "QEMU, docs/system/i386/hyperv.rst";
const HYPERCALLS: &str = "Linux, Documentation/virt/kvm/x86/hypercalls.rst";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "host-interrupts",
        title: "host interrupts cause exits",
        sign: "exits EXTERNAL_INTERRUPT, or `interrupt` on AMD",
        patterns: &[Pattern::Exits(&["EXTERNAL_INTERRUPT", "interrupt"])],
        threshold: Threshold::PerVcpu(1_000.0),
        fine: Some("the host's own timer ticks and device interrupts"),
        cause: "Every interrupt of a host CPU that runs a vCPU is an exit: timer ticks, devices, timers of \
                other guests.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Pin the vCPUs to dedicated CPUs, and route interrupts to other CPUs.",
            settings: &[PINNED],
            inside: "On the host: isolcpus= or nohz_full= for these CPUs; exclude them from \
                     /proc/irq/*/smp_affinity.",
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
        threshold: Threshold::Cost,
        fine: None,
        cause: "To wake each other or to flush TLBs, vCPUs send interrupts by writing an APIC register: an \
                exit per receiver, and one more on the receiver. The number grows with that of vCPUs.",
        remedies: &[
            Remedy {
                os: Os::Windows,
                action: "Enable Hyper-V's hypercalls, which reach many vCPUs at once.",
                settings: &[HV_VPINDEX, HV_IPI, HV_TLBFLUSH],
                inside: "",
            },
            Remedy {
                os: Os::Linux,
                action: "Enable KVM's hypercall, which reaches many vCPUs at once.",
                settings: &[KVM_PV_IPI],
                inside: "",
            },
            Remedy {
                os: Os::Unknown,
                action: "Let the CPU deliver them, if it can.",
                settings: &[],
                inside: "On the host: kvm_intel.enable_ipiv (Linux 5.19 and later); kvm_amd.avic=1.",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[HYPERV_RST, HYPERCALLS],
    },
    Rule {
        id: "end-of-interrupt",
        title: "each end of interrupt is an exit",
        sign: "exits EOI_INDUCED, writes of MSRs 0x80b (X2APIC_EOI) and 0x40000070 (HV_X64_MSR_EOI)",
        patterns: &[
            Pattern::Exits(&["EOI_INDUCED"]),
            Pattern::Msrs(0x80b, 0x80b, Direction::Write),
            Pattern::Msrs(0x4000_0070, 0x4000_0070, Direction::Write),
        ],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Without APICv or AVIC each interrupt needs one more exit, at its end. With them, only \
                level-triggered interrupts of the IOAPIC and those of the RTC do.",
        remedies: &[
            Remedy {
                os: Os::Windows,
                action: "Enable Hyper-V's VP assist page, which ends interrupts without an exit.",
                settings: &[HV_VAPIC],
                inside: "With hv-synic, hv-avic=on (<avic state='on'/>) keeps the CPU's APICv or AVIC in use.",
            },
            Remedy {
                os: Os::Linux,
                action: "Enable KVM's paravirtual end of interrupt, which needs no exit.",
                settings: &[KVM_PV_EOI],
                inside: "",
            },
            Remedy {
                os: Os::Unknown,
                action: "Let the CPU do it, if it can, and use devices with MSI.",
                settings: &[],
                inside: "On the host: /sys/module/kvm_intel/parameters/enable_apicv, or kvm_amd's avic.",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[HYPERV_RST, "Linux, Documentation/virt/kvm/x86/msr.rst (MSR_KVM_EOI_EN)"],
    },
    Rule {
        id: "xapic",
        title: "the guest accesses its APIC as memory",
        sign: "exits APIC_ACCESS, APIC_WRITE and avic_unaccelerated_access, accesses to `apic-msi` at \
               0xfee00000",
        patterns: &[
            Pattern::Exits(&["APIC_ACCESS", "APIC_WRITE", "avic_unaccelerated_access"]),
            Pattern::Device(&["apic-msi"]),
        ],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Accesses to the APIC's registers as memory (xAPIC) cost KVM more than as MSRs (x2APIC), and \
                without APICv or AVIC each of them is an exit.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Enable x2APIC, and let the CPU virtualize the APIC, if it can.",
            settings: &[X2APIC],
            inside: "Linux guest: no nox2apic on the kernel's command line. Windows guest: `bcdedit \
                     /deletevalue x2apicpolicy`. On the host: /sys/module/kvm_intel/parameters/enable_apicv, or kvm_amd's avic.",
        }],
        confidence: Confidence::Medium,
        sources: &["Intel SDM, volume 3, 30.4", "Linux, arch/x86/kvm/lapic.c"],
    },
];
