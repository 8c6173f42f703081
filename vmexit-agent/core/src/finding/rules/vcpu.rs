//! What vCPUs do by themselves: wait, spin, touch memory, call.

use super::settings::{HUGE_PAGES, HV_SPINLOCKS, KVM_PV_UNHALT, PINNED};
use crate::{
    finding::{Confidence, Least, Os, Pattern, Remedy, Rule},
    report::Page,
};

const HYPERV_RST: &str = "QEMU, docs/system/i386/hyperv.rst";
const HYPERCALLS: &str = "Linux, Documentation/virt/kvm/x86/hypercalls.rst";
const HALT_POLLING: &str = "Linux, Documentation/virt/kvm/halt-polling.rst";
const MMU: &str = "Linux, Documentation/virt/kvm/x86/mmu.rst";

const FEWER: Remedy = Remedy {
    os: Os::Unknown,
    action: "Give the host's CPUs fewer vCPUs to run, or these vCPUs CPUs of their own.",
    settings: &[PINNED],
    inside: "",
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "idle",
        title: "vCPUs are idle",
        sign: "exits HLT, or `hlt` and `idle-halt` on AMD",
        patterns: &[Pattern::Exits(&["HLT", "hlt", "idle-halt"])],
        least: Least::Never,
        fine: Some("the time is spent waiting, not working"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[HALT_POLLING],
    },
    Rule {
        id: "halt-polling",
        title: "KVM polls for idle vCPUs",
        sign: "halts that ended while KVM polled, by their time",
        patterns: &[Pattern::Polling],
        least: Least::Core(10.0),
        fine: None,
        cause: "When a vCPU halts KVM keeps the CPU busy for a moment, for the wakeup may come at once. It \
                makes wakeups faster and the host look busy; nobody else is kept from running.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If power or the load shown matters more than latency, have KVM poll for less long.",
            settings: &[],
            inside: "On the host, for all VMs: /sys/module/kvm/parameters/halt_poll_ns, 0 for not at all.",
        }],
        confidence: Confidence::Medium,
        sources: &[HALT_POLLING],
    },
    Rule {
        id: "spinning",
        title: "vCPUs spin",
        sign: "exits PAUSE_INSTRUCTION, or `pause` on AMD",
        patterns: &[Pattern::Exits(&["PAUSE_INSTRUCTION", "pause"])],
        least: Least::Cost,
        fine: None,
        cause: "A vCPU waits in a loop, for the most part for a lock whose holder is not running: there are \
                more vCPUs than CPUs to run them.",
        remedies: &[
            FEWER,
            Remedy {
                os: Os::Windows,
                action: "Have Windows tell when it spins, so that somebody else is let run.",
                settings: &[HV_SPINLOCKS],
                inside: "",
            },
            Remedy {
                os: Os::Linux,
                action: "Have Linux sleep while it waits for a lock.",
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
        least: Least::Cost,
        fine: None,
        cause: "A vCPU that has waited for a lock for long has gone to sleep, or told so; each such wait takes \
                calls. The lock is contended, or its holder is not running.",
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
        title: "the guest calls the hypervisor",
        sign: "hypercalls that send interrupts, flush TLBs or yield: 9 to 11 to KVM; 0x2, 0x3, 0xb, 0x13 to \
               0x15 to Hyper-V",
        patterns: &[
            Pattern::KvmCalls(&[9, 10, 11]),
            Pattern::HyperVCalls(&[0x2, 0x3, 0xb, 0x13, 0x14, 0x15]),
        ],
        least: Least::Never,
        fine: Some("each call stands for several exits that it saves"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[HYPERCALLS, HYPERV_RST],
    },
    Rule {
        id: "missing-pages",
        title: "the guest touches memory that the host has not given it yet",
        sign: "page faults on missing pages",
        patterns: &[Pattern::Faults(Page::Missing)],
        least: Least::Core(5.0),
        fine: Some("memory that is touched for the first time"),
        cause: "The host gives a guest its memory page by page, when it is touched first, and again after it \
                was swapped out or taken by a balloon. A guest that has just started or grown does so for a while.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If it goes on, or if starting up must be quick, give the memory at once and in large pages. \
                   See whether the host swaps (vmstat).",
            settings: &[HUGE_PAGES],
            inside: "",
        }],
        confidence: Confidence::Low,
        sources: &[MMU, "Linux, Documentation/admin-guide/mm/transhuge.rst"],
    },
    Rule {
        id: "protected-pages",
        title: "the guest writes to pages that the host watches",
        sign: "page faults on protected pages",
        patterns: &[Pattern::Faults(Page::Protected)],
        least: Least::Never,
        fine: Some("as while it is migrated, after a snapshot, or where pages are shared"),
        cause: "",
        remedies: &[],
        confidence: Confidence::Medium,
        sources: &[MMU, "Linux, Documentation/virt/kvm/api.rst (KVM_MEM_LOG_DIRTY_PAGES)"],
    },
    Rule {
        id: "cpuid",
        title: "a program in the guest calls CPUID over and over",
        sign: "the CPUID instruction; its leaf says what is asked for",
        patterns: &[Pattern::Cpuid],
        least: Least::Cost,
        fine: None,
        cause: "CPUID always leaves guest mode on Intel, and KVM has it do so on AMD too. Programs use it to \
                order instructions, to ask which CPU they run on, or to measure time.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Find the program and have it keep what it has been told, or order instructions otherwise \
                   (LFENCE, RDTSCP).",
            settings: &[],
            inside: "`vmexit trace --slower-than 1ns` shows at which instructions.",
        }],
        confidence: Confidence::Medium,
        sources: &[
            "Intel SDM, volume 3, 27.1.2",
            "Linux, arch/x86/kvm/svm/svm.c (init_vmcb: INTERCEPT_CPUID)",
        ],
    },
];
