//! Checks before tracing: capabilities and KVM. Each error names the remedy.

use std::path::Path;

use caps::{CapSet, Capability};
use thiserror::Error;

/// Reason why tracing can't start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// Capabilities are missing; their names.
    #[error("not permitted: vmexit needs {0}; run it as root (sudo vmexit …)")]
    NotPermitted(String),
    /// KVM is not loaded.
    #[error(
        "this kernel has no KVM loaded: run `modprobe kvm_intel` or `modprobe kvm_amd`, and check that \
         virtualization is enabled in the firmware"
    )]
    NoKvm,
}

/// Checks capabilities, then KVM.
///
/// # Errors
/// Capabilities or KVM are missing.
pub fn check() -> Result<(), PreflightError> {
    permission()?;
    kvm()
}

/// Checks the capabilities to load and attach programs.
///
/// # Errors
/// Capabilities are missing.
pub fn permission() -> Result<(), PreflightError> {
    let missing = missing_capabilities(|capability| {
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(PreflightError::NotPermitted(missing.join(" and ")))
}

/// Checks that KVM is loaded or built in.
///
/// # Errors
/// The kernel has no KVM.
pub fn kvm() -> Result<(), PreflightError> {
    // Exists for a built-in KVM too, with its parameters.
    if Path::new("/sys/module/kvm").exists() { Ok(()) } else { Err(PreflightError::NoKvm) }
}

/// Names of missing capabilities: CAP_BPF to load programs, CAP_PERFMON to attach them. CAP_SYS_ADMIN implies both
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
    fn missing_capabilities_are_named() {
        assert_eq!(missing_capabilities(|_| false), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(|c| c == Capability::CAP_BPF), ["CAP_PERFMON"]);
        assert!(missing_capabilities(|c| c == Capability::CAP_SYS_ADMIN).is_empty());
    }
}
