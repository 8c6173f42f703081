//! What numbers are called that a guest asks for, as Linux calls them: MSRs, CPUID leaves, hypercalls,
//! and why KVM hands over to the VMM. They don't depend on the VM. Each table is data, one row a line,
//! by number.

pub mod cpuid;
pub mod hyperv_hypercall;
pub mod kvm_hypercall;
pub mod msr;
pub mod userspace_exit;

/// The name beside a number in a table that is by number.
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
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name is there twice: {names:?}");
}
