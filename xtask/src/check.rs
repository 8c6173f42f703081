//! `cargo xtask check`: all gates but the tests, and all their failures in one report.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    setup,
    tool::{cargo, line, status, target},
};

pub(crate) fn check() -> Result<ExitCode> {
    setup::build()?;
    let mut failed = Vec::new();
    for mut gate in gates() {
        eprintln!("check: {}", line(&gate));
        if !status(&mut gate)?.success() {
            failed.push(line(&gate));
        }
    }
    if failed.is_empty() {
        eprintln!("check: all passed");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("check: failed:\n  {}", failed.join("\n  "));
    Ok(ExitCode::FAILURE)
}

fn gates() -> Vec<Command> {
    let mut docs = with(&["doc", "--no-deps", "--workspace", "--exclude", "vmexit-ebpf"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        with(&["fmt", "--all", "--check"]),
        with(&[
            "clippy",
            "--workspace",
            "--exclude",
            "vmexit-ebpf",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
        clippy_for_bpf(),
        docs,
    ]
}

fn with(args: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo.args(args);
    cargo
}

/// The kernel side is for another target, whose core library has to be built first.
fn clippy_for_bpf() -> Command {
    let mut clippy = with(&["clippy", "--package", "vmexit-ebpf", "--release"]);
    clippy.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"]);
    clippy.arg(target().join("bpf")).args(["--", "-D", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1");
    clippy.env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    clippy
}
