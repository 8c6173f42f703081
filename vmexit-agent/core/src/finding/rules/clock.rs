//! Rules about clocks and timers.

use super::settings::{HV_TIME, HYPERV_TIMERS, INVTSC, KVMCLOCK, NO_HPET};
use crate::{
    finding::{Confidence, Os, Pattern, Remedy, Rule, Threshold},
    kind::Direction,
};

const HYPERV_RST: &str = "QEMU, docs/system/i386/hyperv.rst";

/// Windows chooses its clock at boot.
const WINDOWS_CLOCK: &str = "`bcdedit /enum` must show neither useplatformclock nor useplatformtick; remove them with \
     `bcdedit /deletevalue useplatformclock`. Changes of the VM need a shutdown and a start, not a reboot.";

const LINUX_CLOCK: &str = "At run time, if available_clocksource in the same directory lists it: \
     `echo kvm-clock > /sys/devices/system/clocksource/clocksource0/current_clocksource`. \
     Permanently: remove clocksource=, notsc and no-kvmclock from the kernel's command line. \
     `dmesg | grep -i tsc` shows why the kernel rejected the TSC.";

const WINDOWS_TIMERS: Remedy = Remedy {
    os: Os::Windows,
    action: "Enable Hyper-V's clock and timers, which Windows prefers to all others.",
    settings: HYPERV_TIMERS,
    inside: WINDOWS_CLOCK,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "acpi-pm-timer",
        title: "the guest's clock is the ACPI PM timer",
        sign: "reads of QEMU's device `acpi-tmr`",
        patterns: &[Pattern::Device(&["acpi-tmr"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Each reading of the time is a read of a port that QEMU emulates: the vCPU goes to userspace \
                and back. Guests use this clock if they find no better one, or are configured to.",
        remedies: &[
            WINDOWS_TIMERS,
            Remedy {
                os: Os::Linux,
                action: "Make the guest use kvm-clock, or the TSC if it is stable.",
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
        title: "the guest's timer is the real-time clock",
        sign: "accesses to QEMU's devices `rtc` and `rtc-index`, ports 0x70 and 0x71",
        patterns: &[Pattern::Device(&["rtc", "rtc-index"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "The RTC interrupts periodically; for each interrupt the guest reads its register C through \
                two ports that QEMU emulates. Windows uses it if it has neither Hyper-V's timers nor an HPET.",
        remedies: &[
            WINDOWS_TIMERS,
            Remedy {
                os: Os::Linux,
                action: "Find the program that reads it: Linux itself does not use it as a timer.",
                settings: &[],
                inside: "`fuser -v /dev/rtc*` shows which program has it open; look for hwclock in a loop.",
            },
        ],
        confidence: Confidence::High,
        sources: &[HYPERV_RST, "https://github.com/OpenNebula/addon-storpool/issues/79"],
    },
    Rule {
        id: "hpet",
        title: "the guest's clock is the HPET",
        sign: "accesses to QEMU's device `hpet`; its counter is at +0xf0",
        patterns: &[Pattern::Device(&["hpet"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "The HPET's registers are memory that QEMU emulates: each reading of the time is a fault, and \
                the vCPU goes to userspace and back. As a timer, it needs several accesses per tick.",
        remedies: &[
            Remedy {
                os: Os::Windows,
                action: "Enable Hyper-V's clock and timers before removing the HPET. With neither, Windows \
                         uses the RTC, which costs more.",
                settings: HYPERV_TIMERS,
                inside: WINDOWS_CLOCK,
            },
            Remedy {
                os: Os::Linux,
                action: "Make the guest use kvm-clock, or the TSC if it is stable, and remove the HPET.",
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
        title: "the guest's clock is Hyper-V's reference counter MSR",
        sign: "reads of MSR 0x40000020 (HV_X64_MSR_TIME_REF_COUNT)",
        patterns: &[Pattern::Msrs(0x4000_0020, 0x4000_0020, Direction::Read)],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Hyper-V's TSC page provides the same time without an exit. Either the guest does not use it, \
                or KVM marks it invalid, as it does while the host's own clock is not the TSC.",
        remedies: &[Remedy {
            os: Os::Windows,
            action: "Enable the TSC page and the invariant TSC. The VM can then no longer be migrated to a \
                     host with another TSC frequency.",
            settings: &[HV_TIME, INVTSC],
            inside: "On the host: /sys/devices/system/clocksource/clocksource0/current_clocksource must be tsc.",
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
        title: "the guest programs Hyper-V's timers",
        sign: "writes of MSRs 0x400000b0 to 0x400000b7 (HV_X64_MSR_STIMER…)",
        patterns: &[Pattern::Msrs(0x4000_00b0, 0x4000_00b7, Direction::Write)],
        threshold: Threshold::Never,
        fine: Some("these are the recommended timers of a Windows guest"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[HYPERV_RST],
    },
    Rule {
        id: "timer-programming",
        title: "the guest programs its APIC timer",
        sign: "writes of MSRs 0x6e0 (IA32_TSC_DEADLINE) and 0x838 (X2APIC_TMICT)",
        patterns: &[
            Pattern::Msrs(0x6e0, 0x6e0, Direction::Write),
            Pattern::Msrs(0x838, 0x838, Direction::Write),
        ],
        threshold: Threshold::PerVcpu(500.0),
        fine: Some("it is the guest's own tick"),
        cause: "Each programming of the timer is an exit. Frequent ones come from a fast tick (CONFIG_HZ), \
                programs with short sleeps, or many high-resolution timers.",
        remedies: &[
            Remedy {
                os: Os::Linux,
                action: "Have the guest set fewer timers.",
                settings: &[],
                inside: "Use a kernel with a lower CONFIG_HZ, or nohz_full= for CPUs with one busy task. \
                         `perf trace -s` shows programs with short sleeps.",
            },
            Remedy {
                os: Os::Windows,
                action: "Have the guest set fewer timers.",
                settings: &[],
                inside: "`powercfg /energy` lists programs that request a higher timer resolution.",
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
        title: "the guest's timers cause exits when they expire",
        sign: "exits PREEMPTION_TIMER",
        patterns: &[Pattern::Exits(&["PREEMPTION_TIMER"])],
        threshold: Threshold::PerVcpu(500.0),
        fine: Some("it is the guest's own tick"),
        cause: "KVM implements the guest's APIC timer with Intel's preemption timer, on the CPU that runs the \
                vCPU.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If the vCPUs are pinned to dedicated CPUs and the host has APICv, let other CPUs run the \
                     timers.",
            settings: &[],
            inside: "On the host: nohz_full= for the vCPUs' CPUs, and kvm.pi_inject_timer=1.",
        }],
        confidence: Confidence::Medium,
        sources: &["Linux, commit 0c5f81dad46c"],
    },
];
