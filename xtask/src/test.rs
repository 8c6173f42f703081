//! `cargo xtask test`: every test there is, set-up included. What needs root or KVM fails without
//! them; nothing is skipped.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;

use crate::{
    build, setup,
    tool::{cargo, exit_code, status},
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments for cargo test, such as a test's name
    #[arg(last = true)]
    args: Vec<OsString>,
}

pub(crate) fn test(args: &Args) -> Result<ExitCode> {
    setup::all()?;
    // The end-to-end tests run this very program.
    let agent = build::agent(false)?;
    let mut test = cargo();
    test.args(["test", "--workspace", "--exclude", "vmexit-ebpf", "--no-fail-fast"]);
    test.args(&args.args).env("VMEXIT", agent);
    Ok(exit_code(status(&mut test)?))
}
