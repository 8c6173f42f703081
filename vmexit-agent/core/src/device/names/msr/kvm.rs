//! Names of KVM's paravirtual MSRs: arch/x86/include/uapi/asm/kvm_para.h, Linux 7.3.

#[rustfmt::skip]
pub(super) const MSRS: &[(u32, &str)] = &[
    (0x11, "KVM_WALL_CLOCK"),
    (0x12, "KVM_SYSTEM_TIME"),
    (0x4b564d00, "KVM_WALL_CLOCK_NEW"),
    (0x4b564d01, "KVM_SYSTEM_TIME_NEW"),
    (0x4b564d02, "KVM_ASYNC_PF_EN"),
    (0x4b564d03, "KVM_STEAL_TIME"),
    (0x4b564d04, "KVM_PV_EOI_EN"),
    (0x4b564d05, "KVM_POLL_CONTROL"),
    (0x4b564d06, "KVM_ASYNC_PF_INT"),
    (0x4b564d07, "KVM_ASYNC_PF_ACK"),
    (0x4b564d08, "KVM_MIGRATION_CONTROL"),
];
