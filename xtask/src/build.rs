//! `cargo xtask build` and `cargo xtask run`.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    setup,
    tool::{cargo, exit_code, is_root, run as run_checked, status, target},
};

/// Arguments of `cargo xtask build`.
#[derive(clap::Args, Debug)]
pub struct BuildArgs {
    /// Build without most optimizations, which is faster
    #[arg(long)]
    debug: bool,
}

/// Arguments of `cargo xtask run`.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    build: BuildArgs,
    /// Arguments for vmexit
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Builds the agent with its needs set up, and prints and returns its path.
///
/// # Errors
///
/// A tool of the build is missing and can't be installed, or the agent does not build.
pub fn build(args: &BuildArgs) -> Result<PathBuf> {
    setup::build()?;
    let agent = agent(!args.debug)?;
    println!("{}", agent.display());
    Ok(agent)
}

/// Builds the agent and returns its path.
///
/// # Errors
///
/// The agent does not build.
pub fn agent(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "vmexit-agent"]);
    if release {
        build.arg("--release");
    }
    run_checked(&mut build)?;
    Ok(target().join(if release { "release" } else { "debug" }).join("vmexit"))
}

/// Builds the agent and runs it, by sudo unless this is root.
///
/// # Errors
///
/// Building fails as in [`build`], or sudo can't be run.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    setup::build()?;
    let agent = agent(!args.build.debug)?;
    let mut command = if is_root() {
        Command::new(agent)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(agent);
        sudo
    };
    Ok(exit_code(status(command.args(&args.args))?))
}
