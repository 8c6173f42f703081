//! `cargo xtask build` and `cargo xtask run`.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    setup,
    tool::{cargo, exit_code, is_root, run as must, status, target},
};

/// Arguments of `cargo xtask build`.
#[derive(clap::Args, Debug)]
pub struct BuildArgs {
    /// Build without the optimizations that take long to compile
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

/// Builds the agent and prints its path.
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

/// Path of the agent, which is built first.
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
    must(&mut build)?;
    Ok(target().join(if release { "release" } else { "debug" }).join("vmexit"))
}

/// Builds the agent and runs it, with sudo where this is not root.
///
/// # Errors
///
/// As [`build`], or sudo can't be run.
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
