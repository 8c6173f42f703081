//! `cargo xtask check`: all gates but the tests, and all their failures in one report.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    setup,
    tool::{FOR_BPF, cargo, line, status, target},
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
    let mut docs = for_host("doc");
    docs.arg("--no-deps");
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut clippy = for_host("clippy");
    clippy.args(["--all-targets", "--", "-D", "warnings"]);
    vec![with(&["fmt", "--all", "--check"]), clippy, clippy_for_bpf(), docs]
}

/// A cargo command for all packages that are not for the BPF target.
fn for_host(verb: &str) -> Command {
    let mut cargo = with(&[verb, "--workspace"]);
    cargo.args(FOR_BPF.iter().flat_map(|package| ["--exclude", package]));
    cargo
}

fn with(args: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo.args(args);
    cargo
}

/// The kernel side is for another target, whose core library has to be built first.
fn clippy_for_bpf() -> Command {
    let mut clippy = with(&["clippy", "--release"]);
    clippy.args(FOR_BPF.iter().flat_map(|package| ["--package", package]));
    clippy.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"]);
    clippy.arg(target().join("bpf")).args(["--", "-D", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1");
    clippy.env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    clippy
}
