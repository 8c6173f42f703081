//! `cargo xtask check`: all gates but the tests, with all their failures in one report.

use std::process::{Command, ExitCode};

use anyhow::Result;
use xtask::{
    setup,
    tool::{FOR_BPF, cargo, has, line, status, target},
};

pub(crate) fn check() -> Result<ExitCode> {
    setup::build()?;
    let mut failed = Vec::new();
    for mut gate in gates(has("cargo-deny")) {
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

/// All gates. That of the licences needs cargo-deny, which takes minutes to build: CI has it.
fn gates(has_deny: bool) -> Vec<Command> {
    let mut docs = for_host("doc");
    docs.arg("--no-deps");
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut clippy = for_host("clippy");
    clippy.args(["--all-targets", "--", "-D", "warnings"]);
    let mut gates = vec![with(&["fmt", "--all", "--check"]), clippy, clippy_for_bpf(), docs];
    if has_deny {
        // Advisories come over the network: the workflow asks for them.
        gates.push(with(&["deny", "--offline", "check", "licenses", "bans", "sources"]));
    } else {
        eprintln!(
            "check: left out: cargo deny, which is not installed (cargo install --locked cargo-deny)"
        );
    }
    gates
}

/// A cargo command for all packages that are not for the BPF target.
fn for_host(command: &str) -> Command {
    let mut cargo = with(&[command, "--workspace"]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_checked_where_they_can_be() {
        let lines = |has_deny| gates(has_deny).iter().map(line).collect::<Vec<_>>();
        assert_eq!(lines(true)[..4], lines(false));
        assert_eq!(lines(true)[4], "cargo deny --offline check licenses bans sources");
        assert!(lines(false)[0].ends_with("fmt --all --check"));
    }
}
