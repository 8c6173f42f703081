//! The agent where little can be seen, and how it must say so.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use crate::agent;

/// Runs a shell line in process and mount namespaces of its own, where no VM is, with the agent as
/// `$VMEXIT`.
pub fn run_isolated(line: &str) -> Result<Output> {
    Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", line])
        .env("VMEXIT", agent::program()?)
        .output()
        .context("unshare (util-linux) must run: be root")
}

/// Demands that it failed with this exit code and one sentence that says so.
pub fn ensure_failed(output: &Output, code: i32, says: &str) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{}, not {code}: {stderr}", output.status);
    ensure!(stderr.contains(says), "{stderr:?} does not say {says:?}");
    ensure!(stderr.trim_end().lines().count() == 1, "more than one sentence: {stderr}");
    ensure!(output.stdout.is_empty(), "it has written something all the same");
    Ok(())
}
