//! `cargo xtask check`: runs all checks except the tests, and reports all failures at the end.

use std::process::{Command, ExitCode};

use anyhow::Result;
use xtask::{
    setup,
    tool::{FOR_BPF, cargo, has, line, status, target},
};

/// Runs all checks.
///
/// # Errors
///
/// A tool of the build is missing and can't be installed, or cargo can't be run. A check that fails is an exit code.
pub(crate) fn check() -> Result<ExitCode> {
    setup::build()?;
    let mut failed = Vec::new();
    for mut command in commands(has("cargo-deny")) {
        eprintln!("check: {}", line(&command));
        if !status(&mut command)?.success() {
            failed.push(line(&command));
        }
    }
    if failed.is_empty() {
        eprintln!("check: all passed");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("check: failed:\n  {}", failed.join("\n  "));
    Ok(ExitCode::FAILURE)
}

/// Returns the commands of all checks. cargo-deny takes minutes to build, so it is optional; CI has it.
fn commands(has_deny: bool) -> Vec<Command> {
    let mut docs = host_packages("doc");
    docs.arg("--no-deps");
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut clippy = host_packages("clippy");
    clippy.args(["--all-targets", "--", "-D", "warnings"]);
    let mut commands =
        vec![cargo_with(&["fmt", "--all", "--check"]), clippy, clippy_for_bpf(), docs];
    if has_deny {
        // Advisories need the network; audit.yml checks them.
        commands.push(cargo_with(&["deny", "--offline", "check", "licenses", "bans", "sources"]));
    } else {
        eprintln!(
            "check: skipped cargo deny, which is not installed: cargo install --locked cargo-deny"
        );
    }
    commands
}

/// Returns a cargo command for all packages except those for BPF.
fn host_packages(command: &str) -> Command {
    let mut cargo = cargo_with(&[command, "--workspace"]);
    cargo.args(FOR_BPF.iter().flat_map(|package| ["--exclude", package]));
    cargo
}

/// Returns a cargo command with these arguments.
fn cargo_with(args: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo.args(args);
    cargo
}

/// Returns the clippy command for the packages for BPF, whose target needs a core library built from source.
fn clippy_for_bpf() -> Command {
    let mut clippy = cargo_with(&["clippy", "--release"]);
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
    fn commands_include_cargo_deny_if_installed() {
        let lines = |has_deny| commands(has_deny).iter().map(line).collect::<Vec<_>>();
        assert_eq!(lines(true)[..4], lines(false));
        assert_eq!(lines(true)[4], "cargo deny --offline check licenses bans sources");
        assert!(lines(false)[0].ends_with("fmt --all --check"));
    }
}
