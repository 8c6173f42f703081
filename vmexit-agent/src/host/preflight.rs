//! Can this process trace KVM here? Each "no" is one sentence that says what to do.

use std::path::Path;

use caps::{CapSet, Capability};
use thiserror::Error;

/// Why tracing can't even start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// Capabilities are lacking.
    #[error("not permitted: vmexit needs {0}; run it as root (sudo vmexit …)")]
    NotPermitted(String),
    /// There is no KVM to trace.
    #[error(
        "this kernel has no KVM loaded: run `modprobe kvm_intel` or `modprobe kvm_amd`, and check that \
         virtualization is enabled in the firmware"
    )]
    NoKvm,
}

/// Looks for capabilities first, for without them the rest can't be seen, then for KVM.
pub fn check() -> Result<(), PreflightError> {
    permission()?;
    kvm()
}

/// May we load and attach programs?
pub fn permission() -> Result<(), PreflightError> {
    let missing = missing_capabilities(|capability| {
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(PreflightError::NotPermitted(missing.join(" and ")))
}

/// Is there a KVM?
pub fn kvm() -> Result<(), PreflightError> {
    // Built in or a module, KVM has its parameters here.
    if Path::new("/sys/module/kvm").exists() { Ok(()) } else { Err(PreflightError::NoKvm) }
}

/// CAP_BPF to load programs, CAP_PERFMON to attach them to tracepoints; CAP_SYS_ADMIN implies both
/// (capabilities(7)).
fn missing_capabilities(has: impl Fn(Capability) -> bool) -> Vec<String> {
    if has(Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    [Capability::CAP_BPF, Capability::CAP_PERFMON]
        .into_iter()
        .filter(|&capability| !has(capability))
        .map(|capability| capability.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing_capabilities(|_| false), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(|c| c == Capability::CAP_BPF), ["CAP_PERFMON"]);
        assert!(missing_capabilities(|c| c == Capability::CAP_SYS_ADMIN).is_empty());
    }
}
