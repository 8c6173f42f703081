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
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Without optimizations that take long to compile
    #[arg(long)]
    debug: bool,
}

/// Arguments of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    build: Args,
    /// Arguments for vmexit
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Builds the agent and says where it is.
pub(crate) fn build(args: &Args) -> Result<PathBuf> {
    setup::build()?;
    let agent = agent(!args.debug)?;
    println!("{}", agent.display());
    Ok(agent)
}

/// Builds the agent; the path of the program.
pub(crate) fn agent(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "vmexit-agent"]);
    if release {
        build.arg("--release");
    }
    must(&mut build)?;
    Ok(target().join(if release { "release" } else { "debug" }).join("vmexit"))
}

/// Builds the agent and runs it, by sudo where we are not root.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
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
