//! Clocks and timers.

use super::settings::{HV_TIME, HYPERV_TIMERS, INVTSC, KVMCLOCK, NO_HPET};
use crate::{
    finding::{Confidence, Least, Os, Pattern, Remedy, Rule},
    kind::Direction,
};

const HYPERV_RST: &str = "QEMU, docs/system/i386/hyperv.rst";

/// Windows looks for its clock when it starts.
const WINDOWS_CLOCK: &str = "`bcdedit /enum` must show neither useplatformclock nor useplatformtick: \
     `bcdedit /deletevalue useplatformclock`. A change of the VM takes a shutdown and a start, not a reboot.";

const LINUX_CLOCK: &str = "`echo kvm-clock > /sys/devices/system/clocksource/clocksource0/current_clocksource` \
     has it at once, where available_clocksource beside it lists it. For good, take clocksource=, notsc and \
     no-kvmclock off the kernel's command line; `dmesg | grep -i tsc` says why the TSC was given up.";

const WINDOWS_TIMERS: Remedy = Remedy {
    os: Os::Windows,
    action: "Offer Hyper-V's clock and timers, which Windows prefers to all others.",
    settings: HYPERV_TIMERS,
    inside: WINDOWS_CLOCK,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "acpi-pm-timer",
        title: "the guest keeps time by the ACPI PM timer",
        sign: "reads of QEMU's device `acpi-tmr`",
        patterns: &[Pattern::Device(&["acpi-tmr"])],
        least: Least::Cost,
        fine: None,
        cause: "Whenever the guest asks for the time it reads a port that QEMU emulates: the vCPU goes to \
                userspace and back. Guests do so where they know no better clock, or were told to.",
        remedies: &[
            WINDOWS_TIMERS,
            Remedy {
                os: Os::Linux,
                action: "Have the guest use kvm-clock, or the TSC where it is stable.",
                settings: &[KVMCLOCK],
                inside: LINUX_CLOCK,
            },
        ],
        confidence: Confidence::High,
        sources: &[
            HYPERV_RST,
            "Linux, Documentation/virt/kvm/x86/timekeeping.rst",
            "https://github.com/MicrosoftDocs/Virtualization-Documentation/issues/1885",
        ],
    },
    Rule {
        id: "rtc",
        title: "the guest ticks by the real-time clock",
        sign: "accesses to QEMU's devices `rtc` and `rtc-index`, ports 0x70 and 0x71",
        patterns: &[Pattern::Device(&["rtc", "rtc-index"])],
        least: Least::Cost,
        fine: None,
        cause: "The RTC interrupts periodically, and each time the guest reads its register C by two ports \
                that QEMU emulates. Windows does so where it has neither Hyper-V's timers nor an HPET.",
        remedies: &[
            WINDOWS_TIMERS,
            Remedy {
                os: Os::Linux,
                action: "Linux does not tick by it: find the program that reads it.",
                settings: &[],
                inside: "`fuser -v /dev/rtc*` shows who has it open; look for hwclock in a loop.",
            },
        ],
        confidence: Confidence::High,
        sources: &[HYPERV_RST, "https://github.com/OpenNebula/addon-storpool/issues/79"],
    },
    Rule {
        id: "hpet",
        title: "the guest keeps time by the HPET",
        sign: "accesses to QEMU's device `hpet`; its counter is at +0xf0",
        patterns: &[Pattern::Device(&["hpet"])],
        least: Least::Cost,
        fine: None,
        cause: "The HPET's registers are memory that QEMU emulates: each reading of the time is a fault, and \
                the vCPU goes to userspace and back. As a timer it takes several accesses for each tick.",
        remedies: &[
            Remedy {
                os: Os::Windows,
                action: "Offer Hyper-V's clock and timers first. An HPET that is taken away without them sends \
                       Windows to the RTC, which costs more.",
                settings: HYPERV_TIMERS,
                inside: WINDOWS_CLOCK,
            },
            Remedy {
                os: Os::Linux,
                action: "Have the guest use kvm-clock, or the TSC where it is stable, and leave the HPET out.",
                settings: &[KVMCLOCK, NO_HPET],
                inside: LINUX_CLOCK,
            },
        ],
        confidence: Confidence::High,
        sources: &[
            HYPERV_RST,
            "https://github.com/systemd/mkosi/pull/3811",
            "https://github.com/virt-manager/virt-manager/issues/205",
        ],
    },
    Rule {
        id: "hyperv-reference-counter",
        title: "the guest reads Hyper-V's clock by MSR",
        sign: "reads of MSR 0x40000020 (HV_X64_MSR_TIME_REF_COUNT)",
        patterns: &[Pattern::Msrs(0x4000_0020, 0x4000_0020, Direction::Read)],
        least: Least::Cost,
        fine: None,
        cause: "Hyper-V's TSC page tells the same time without an exit. The guest does not use it, or KVM \
                keeps it invalid, as it does while the host's own clock is not the TSC.",
        remedies: &[Remedy {
            os: Os::Windows,
            action: "Offer the TSC page on a TSC that is said to be invariant; that keeps the VM from being \
                   migrated to a host with another frequency.",
            settings: &[HV_TIME, INVTSC],
            inside: "On the host /sys/devices/system/clocksource/clocksource0/current_clocksource must be tsc.",
        }],
        confidence: Confidence::Medium,
        sources: &[
            HYPERV_RST,
            "Linux, arch/x86/kvm/hyperv.c (kvm_hv_setup_tsc_page)",
            "https://github.com/cloud-hypervisor/cloud-hypervisor/pull/8380",
        ],
    },
    Rule {
        id: "hyperv-timers",
        title: "the guest sets Hyper-V's timers",
        sign: "writes of MSRs 0x400000b0 to 0x400000b7 (HV_X64_MSR_STIMER…)",
        patterns: &[Pattern::Msrs(0x4000_00b0, 0x4000_00b7, Direction::Write)],
        least: Least::Never,
        fine: Some("these are the timers that a Windows guest is to use"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[HYPERV_RST],
    },
    Rule {
        id: "timer-programming",
        title: "the guest sets its timer",
        sign: "writes of MSRs 0x6e0 (IA32_TSC_DEADLINE) and 0x838 (X2APIC_TMICT)",
        patterns: &[
            Pattern::Msrs(0x6e0, 0x6e0, Direction::Write),
            Pattern::Msrs(0x838, 0x838, Direction::Write),
        ],
        least: Least::PerVcpu(500.0),
        fine: Some("it is the guest's own tick"),
        cause: "Each time the guest sets when it is to be interrupted next it leaves for KVM: a fast tick \
                (CONFIG_HZ), programs that sleep for moments, many high-resolution timers.",
        remedies: &[
            Remedy {
                os: Os::Linux,
                action: "Have the guest set fewer timers.",
                settings: &[],
                inside: "A kernel with a lower CONFIG_HZ; nohz_full= for CPUs with one busy task; \
                         `perf trace -s` shows programs that sleep for moments.",
            },
            Remedy {
                os: Os::Windows,
                action: "Have the guest set fewer timers.",
                settings: &[],
                inside: "`powercfg /energy` names programs that ask for a finer timer.",
            },
        ],
        confidence: Confidence::Medium,
        sources: &[
            "Linux, arch/x86/kernel/apic/apic.c (lapic_next_deadline)",
            "Linux, Documentation/timers/no_hz.rst",
        ],
    },
    Rule {
        id: "preemption-timer",
        title: "the guest's timers end guest mode when they fire",
        sign: "exits PREEMPTION_TIMER",
        patterns: &[Pattern::Exits(&["PREEMPTION_TIMER"])],
        least: Least::PerVcpu(500.0),
        fine: Some("it is the guest's own tick"),
        cause: "KVM has Intel's preemption timer run for the guest's APIC timer, on the CPU that runs the vCPU.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Where vCPUs have CPUs of their own and there is APICv, have other CPUs run the timers.",
            settings: &[],
            inside: "On the host: nohz_full= for the vCPUs' CPUs, and kvm.pi_inject_timer=1.",
        }],
        confidence: Confidence::Medium,
        sources: &["Linux, commit 0c5f81dad46c"],
    },
];
