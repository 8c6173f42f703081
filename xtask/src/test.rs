//! `cargo xtask test`: every test there is, set-up included. What needs root or KVM fails without
//! them; nothing is skipped.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;

use crate::{
    build, setup,
    tool::{FOR_BPF, cargo, exit_code, status},
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments for cargo test, such as a test's name
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Version of the newest kernel to test on, as `cargo xtask lab --kernel` takes it.
const NEWEST: &str = "7";

pub(crate) fn test(args: &Args) -> Result<ExitCode> {
    setup::all()?;
    // The end-to-end tests run this very program.
    let agent = build::agent(false)?;
    let mut test = cargo();
    test.args(["test", "--workspace", "--no-fail-fast"]);
    test.args(FOR_BPF.iter().flat_map(|package| ["--exclude", package]));
    test.args(&args.args).env("VMEXIT", &agent);
    let first = status(&mut test)?;
    if !first.success() || !args.args.is_empty() {
        return Ok(exit_code(first));
    }
    // The other end of the range; `cargo xtask lab --matrix` has all between.
    eprintln!("test: the lab's tests again, on the newest kernel");
    let mut newest = cargo();
    newest.args([
        "test",
        "--package",
        "vmexit-tests",
        "--test",
        "amd",
        "--test",
        "trace",
        "--test",
        "top_lab",
    ]);
    newest.env("VMEXIT", agent).env("VMEXIT_LAB_KERNEL", NEWEST);
    Ok(exit_code(status(&mut newest)?))
}
