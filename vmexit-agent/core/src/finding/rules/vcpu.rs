//! Rules about vCPUs: waiting, spinning, page faults, hypercalls, CPUID.

use super::settings::{HUGE_PAGES, HV_SPINLOCKS, KVM_PV_UNHALT, PINNED};
use crate::{
    finding::{Confidence, Os, Pattern, Remedy, Rule, Threshold},
    report::Page,
};

const HYPERV_RST: &str = "QEMU, docs/system/i386/hyperv.rst";
const HYPERCALLS: &str = "Linux, Documentation/virt/kvm/x86/hypercalls.rst";
const HALT_POLLING: &str = "Linux, Documentation/virt/kvm/halt-polling.rst";
const MMU: &str = "Linux, Documentation/virt/kvm/x86/mmu.rst";

const FEWER: Remedy = Remedy {
    os: Os::Unknown,
    action: "Run fewer vCPUs per host CPU, or pin these vCPUs to dedicated CPUs.",
    settings: &[PINNED],
    inside: "",
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "idle",
        title: "vCPUs are idle",
        sign: "exits HLT, or `hlt` and `idle-halt` on AMD",
        patterns: &[Pattern::Exits(&["HLT", "hlt", "idle-halt"])],
        threshold: Threshold::Never,
        fine: Some("this time is waiting, not work"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[HALT_POLLING],
    },
    Rule {
        id: "halt-polling",
        title: "KVM polls for idle vCPUs",
        sign: "time of halts that ended while KVM polled",
        patterns: &[Pattern::Polling],
        threshold: Threshold::Core(10.0),
        fine: None,
        cause: "When a vCPU halts, KVM polls for a short time, because the wakeup may follow at once. Polling \
                makes wakeups faster, and the host looks busy; other tasks are not kept from running.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If power or the displayed load matters more than latency, shorten the polling.",
            settings: &[],
            inside: "On the host, for all VMs: /sys/module/kvm/parameters/halt_poll_ns; 0 disables polling.",
        }],
        confidence: Confidence::Medium,
        sources: &[HALT_POLLING],
    },
    Rule {
        id: "spinning",
        title: "vCPUs spin",
        sign: "exits PAUSE_INSTRUCTION, or `pause` on AMD",
        patterns: &[Pattern::Exits(&["PAUSE_INSTRUCTION", "pause"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "A vCPU waits in a loop, mostly for a lock whose holder is not running: there are more vCPUs \
                than CPUs to run them.",
        remedies: &[
            FEWER,
            Remedy {
                os: Os::Windows,
                action: "Make Windows notify KVM when it spins, so that another vCPU can run.",
                settings: &[HV_SPINLOCKS],
                inside: "",
            },
            Remedy {
                os: Os::Linux,
                action: "Make Linux sleep while it waits for a lock.",
                settings: &[KVM_PV_UNHALT],
                inside: "",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[HYPERV_RST, HYPERCALLS],
    },
    Rule {
        id: "lock-contention",
        title: "vCPUs wait for each other's locks",
        sign: "hypercalls KVM_HC_KICK_CPU to KVM and HVCALL_NOTIFY_LONG_SPIN_WAIT to Hyper-V",
        patterns: &[Pattern::KvmCalls(&[5]), Pattern::HyperVCalls(&[8])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "A vCPU that waits for a lock for long goes to sleep, or notifies the hypervisor; both take \
                hypercalls. The lock is contended, or its holder is not running.",
        remedies: &[
            FEWER,
            Remedy {
                os: Os::Linux,
                action: "Find the lock.",
                settings: &[],
                inside: "`perf lock contention -b` shows where the kernel waits.",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[HYPERV_RST, HYPERCALLS],
    },
    Rule {
        id: "paravirtual-calls",
        title: "the guest makes paravirtual hypercalls",
        sign: "hypercalls that send interrupts, flush TLBs or yield: 9 to 11 to KVM; 0x2, 0x3, 0xb, 0x13 to \
               0x15 to Hyper-V",
        patterns: &[
            Pattern::KvmCalls(&[9, 10, 11]),
            Pattern::HyperVCalls(&[0x2, 0x3, 0xb, 0x13, 0x14, 0x15]),
        ],
        threshold: Threshold::Never,
        fine: Some("each hypercall replaces several exits"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[HYPERCALLS, HYPERV_RST],
    },
    Rule {
        id: "missing-pages",
        title: "the guest accesses memory that the host has not allocated yet",
        sign: "page faults on missing pages",
        patterns: &[Pattern::Faults(Page::Missing)],
        threshold: Threshold::Core(5.0),
        fine: Some("first accesses to memory"),
        cause: "The host allocates a guest's memory page by page at the first access, and again after a page \
                was swapped out or reclaimed by a balloon. It is normal for a while after a guest has started \
                or grown.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If it continues, or if startup must be fast, allocate the memory in advance, in huge \
                     pages. Check whether the host swaps (vmstat).",
            settings: &[HUGE_PAGES],
            inside: "",
        }],
        confidence: Confidence::Low,
        sources: &[MMU, "Linux, Documentation/admin-guide/mm/transhuge.rst"],
    },
    Rule {
        id: "protected-pages",
        title: "the guest writes to write-protected pages",
        sign: "page faults on protected pages",
        patterns: &[Pattern::Faults(Page::Protected)],
        threshold: Threshold::Never,
        fine: Some("caused by migration, snapshots or shared pages"),
        cause: "",
        remedies: &[],
        confidence: Confidence::Medium,
        sources: &[MMU, "Linux, Documentation/virt/kvm/api.rst (KVM_MEM_LOG_DIRTY_PAGES)"],
    },
    Rule {
        id: "cpuid",
        title: "a program in the guest executes CPUID repeatedly",
        sign: "the CPUID instruction; its leaf is the information requested",
        patterns: &[Pattern::Cpuid],
        threshold: Threshold::Cost,
        fine: None,
        cause: "CPUID always causes an exit on Intel, and KVM intercepts it on AMD too. Programs use it to \
                serialize instructions, to find the CPU they run on, or to measure time.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Find the program, and make it cache the result or serialize with other instructions \
                     (LFENCE, RDTSCP).",
            settings: &[],
            inside: "`vmexit trace --slower-than 1ns` shows the instruction addresses.",
        }],
        confidence: Confidence::Medium,
        sources: &[
            "Intel SDM, volume 3, 27.1.2",
            "Linux, arch/x86/kvm/svm/svm.c (init_vmcb: INTERCEPT_CPUID)",
        ],
    },
];
