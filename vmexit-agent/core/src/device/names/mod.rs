//! Linux's names of numbers that do not depend on the VM: MSRs, CPUID leaves, hypercalls, and KVM's
//! reasons for exits to userspace. Each table is sorted by number, one row per line.

pub mod cpuid;
pub mod hyperv_hypercall;
pub mod kvm_hypercall;
pub mod msr;
pub mod userspace_exit;

/// The name of a number in a sorted table.
fn find<N: Ord + Copy>(table: &[(N, &'static str)], number: N) -> Option<&'static str> {
    let at = table.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    Some(table[at].1)
}

#[cfg(test)]
fn assert_in_order<N: Ord + std::fmt::Debug>(table: &[(N, &'static str)]) {
    for pair in table.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{:?} does not come before {:?}", pair[0], pair[1]);
    }
    let mut names: Vec<_> = table.iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "duplicate name: {names:?}");
}
