//! Commands in namespaces without a VM, and the check of how the agent fails there.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use crate::agent;

/// Runs a shell line in new process and mount namespaces, in which no VM runs. `$VMEXIT` is the agent.
///
/// # Errors
///
/// When `unshare` can't be started. A line that fails is no error: see the status of the output.
pub fn run_isolated(line: &str) -> Result<Output> {
    Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", line])
        .env("VMEXIT", agent::program()?)
        .output()
        .context("unshare (util-linux) must run: be root")
}

/// Demands a failure: this exit code, one line on standard error that contains `says`, and no output.
///
/// # Errors
///
/// When the output is anything else.
pub fn ensure_failed(output: &Output, code: i32, says: &str) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{}, not {code}: {stderr}", output.status);
    ensure!(stderr.contains(says), "{stderr:?} does not say {says:?}");
    ensure!(stderr.trim_end().lines().count() == 1, "more than one sentence: {stderr}");
    ensure!(output.stdout.is_empty(), "it has written something all the same");
    Ok(())
}
