//! Builds eBPF objects with the pinned toolchain, for the build scripts of the packages that embed them.

use std::env;

use anyhow::{Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// Builds the package of this name in this directory, and writes its object to `OUT_DIR` under the same
/// name. A change in the directory triggers a rebuild.
///
/// # Errors
///
/// If bpf-linker is missing or the package does not build.
///
/// # Safety
///
/// No other thread may be running, since the process's environment is changed.
pub unsafe fn ebpf(package: &str, directory: &str) -> Result<()> {
    check_tools()?;
    // SAFETY: the caller guarantees that no other thread reads or changes the environment.
    unsafe {
        // Allows `-Z build-std` on the pinned stable toolchain. Set here so that it affects this one
        // build, and none of the crates that probe for nightly features.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // "Less than" jumps: part of instruction set v2, in Linux since 4.14. aya-build sets RUSTFLAGS
        // itself, so the flag is set by the profile, except for build scripts and procedural macros.
        env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v2");
        env::set_var("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "-Cdebuginfo=0");
        // Keeps this machine's paths out of the object's BTF.
        env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all");
        // Cargo's progress would be shown as warnings of the calling build script.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".into());
    build_ebpf(
        [Package { name: package, root_dir: directory, ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
}

/// Checks that bpf-linker is installed: one sentence instead of pages of errors from the build.
fn check_tools() -> Result<()> {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()));
    if !found {
        bail!("bpf-linker is not installed: run `cargo xtask setup` first");
    }
    Ok(())
}
