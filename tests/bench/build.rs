//! Builds the comparators' eBPF object, as the agent's build script builds the agent's, and leaves it in
//! `OUT_DIR`.

use std::{env, path::Path};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let ebpf = Path::new(&manifest).join("ebpf");
    check_tools()?;

    // SAFETY: a build script's main thread, before it starts another.
    // `-Z build-std` on the pinned stable toolchain; set here so that it reaches this one build
    // and none of the crates that probe for nightly features.
    unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    // Its progress would come out as this crate's warnings.
    // SAFETY: as above.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".into());
    build_ebpf(
        [Package {
            name: "vmexit-bench-ebpf",
            root_dir: ebpf.to_str().context("the workspace's path is not UTF-8")?,
            ..Package::default()
        }],
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
