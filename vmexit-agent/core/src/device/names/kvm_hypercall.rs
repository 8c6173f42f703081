//! Names of KVM's hypercalls: the `nr` of `kvm_hypercall`. include/uapi/linux/kvm_para.h, Linux
//! 7.3.

#[rustfmt::skip]
const CALLS: &[(u64, &str)] = &[
    (1, "KVM_HC_VAPIC_POLL_IRQ"),
    (2, "KVM_HC_MMU_OP"),
    (3, "KVM_HC_FEATURES"),
    (4, "KVM_HC_PPC_MAP_MAGIC_PAGE"),
    (5, "KVM_HC_KICK_CPU"),
    (6, "KVM_HC_MIPS_GET_CLOCK_FREQ"),
    (7, "KVM_HC_MIPS_EXIT_VM"),
    (8, "KVM_HC_MIPS_CONSOLE_OUTPUT"),
    (9, "KVM_HC_CLOCK_PAIRING"),
    (10, "KVM_HC_SEND_IPI"),
    (11, "KVM_HC_SCHED_YIELD"),
    (12, "KVM_HC_MAP_GPA_RANGE"),
];

/// Linux's name of a hypercall, such as `KVM_HC_SEND_IPI`.
pub fn name(number: u64) -> Option<&'static str> {
    super::find(CALLS, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_hypercall_names_match_table() {
        super::super::assert_in_order(CALLS);
        assert_eq!(name(5), Some("KVM_HC_KICK_CPU"));
        assert_eq!(name(11), Some("KVM_HC_SCHED_YIELD"));
        assert_eq!((name(0), name(u64::MAX)), (None, None));
    }
}
