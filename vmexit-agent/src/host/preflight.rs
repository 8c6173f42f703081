//! Checks before tracing: capabilities, lockdown and KVM. Each error names the remedy.

use std::{fs, path::Path};

use caps::{CapSet, Capability};
use thiserror::Error;

/// Reason why tracing can't start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// Capabilities are missing; their names.
    #[error("not permitted: vmexit needs {0}; run it as root (sudo vmexit …)")]
    NotPermitted(String),
    /// The kernel is locked down.
    #[error(
        "the kernel is in lockdown=confidentiality, which forbids eBPF programs to read kernel memory: boot it with \
         lockdown=integrity or without lockdown"
    )]
    Lockdown,
    /// KVM is not loaded.
    #[error(
        "this kernel has no KVM loaded: run `modprobe kvm_intel` or `modprobe kvm_amd`, and check that \
         virtualization is enabled in the firmware"
    )]
    NoKvm,
}

/// Checks capabilities, lockdown, then KVM.
///
/// # Errors
/// Capabilities or KVM are missing, or the kernel is locked down.
pub fn check() -> Result<(), PreflightError> {
    permission()?;
    lockdown()?;
    kvm()
}

/// Checks that lockdown does not forbid eBPF programs to read kernel memory (`LOCKDOWN_BPF_READ_KERNEL`,
/// include/linux/security.h). It can't be lowered before the next boot.
///
/// # Errors
/// The kernel is in lockdown=confidentiality.
pub fn lockdown() -> Result<(), PreflightError> {
    // Missing without the Lockdown LSM, and where securityfs is not mounted.
    let state = fs::read_to_string("/sys/kernel/security/lockdown");
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if is_confidential(state.ok().as_deref(), &command_line) {
        return Err(PreflightError::Lockdown);
    }
    Ok(())
}

/// Whether the level is `confidentiality`, by the levels of securityfs, of which the active one is in brackets
/// (security/lockdown/lockdown.c), else by the kernel's command line.
fn is_confidential(state: Option<&str>, command_line: &str) -> bool {
    match state {
        Some(state) => state.contains("[confidentiality]"),
        None => command_line.split_whitespace().any(|word| word == "lockdown=confidentiality"),
    }
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
    fn is_confidential_follows_active_level_then_command_line() {
        let (booted, quiet) = ("ro lockdown=confidentiality", "ro quiet");
        assert!(is_confidential(Some("none integrity [confidentiality]\n"), quiet));
        assert!(!is_confidential(Some("none [integrity] confidentiality\n"), quiet));
        // Without its LSM the parameter has no effect, but then there is no file either.
        assert!(!is_confidential(Some("[none] integrity confidentiality\n"), booted));
        assert!(is_confidential(None, booted));
        assert!(!is_confidential(None, quiet));
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing_capabilities(|_| false), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(|c| c == Capability::CAP_BPF), ["CAP_PERFMON"]);
        assert!(missing_capabilities(|c| c == Capability::CAP_SYS_ADMIN).is_empty());
    }
}
