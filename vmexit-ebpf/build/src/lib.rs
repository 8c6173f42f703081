//! Builds an eBPF object with the pinned toolchain, for the build script of the package that carries it.

use std::env;

use anyhow::{Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// Builds the package of this name in this directory, and leaves its object in `OUT_DIR` under the same
/// name. A change in the directory has it built again.
///
/// # Errors
///
/// bpf-linker is missing, or the package does not build.
///
/// # Safety
///
/// No other thread is running: the process's environment changes.
pub unsafe fn ebpf(package: &str, directory: &str) -> Result<()> {
    check_tools()?;
    // SAFETY: nobody else reads or changes it.
    unsafe {
        // `-Z build-std` on the pinned stable toolchain; set here so that it reaches this one build
        // and none of the crates that probe for nightly features.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Comparisons by "less", which the least of targets has not; Linux has had them since 4.14. aya-build
        // sets RUSTFLAGS itself, so it goes by the profile, all but what runs while building.
        env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v2");
        env::set_var("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "-Cdebuginfo=0");
        // No directory of this machine is in the object's BTF.
        env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all");
        // Its progress would come out as the caller's warnings.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".into());
    build_ebpf(
        [Package { name: package, root_dir: directory, ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
}

/// One clear sentence instead of pages from a linker that is not there.
fn check_tools() -> Result<()> {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()));
    if !found {
        bail!("bpf-linker is not installed: run `cargo xtask setup` first");
    }
    Ok(())
}
