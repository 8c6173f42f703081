//! Commands of the project, one file each: `cargo xtask --help`.

mod check;
mod dist;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{build, labs, setup};

/// Set up, build, try and test vmexit.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: XtaskCommand,
}

#[derive(Subcommand)]
enum XtaskCommand {
    /// Install the tools and programs that building and testing need, if they are missing
    Setup,
    /// Build the agent with its eBPF programs
    Build(build::BuildArgs),
    /// Build the agent and run it as root: cargo xtask run -- capture
    Run(build::RunArgs),
    #[command(flatten)]
    Labs(labs::LabsCommand),
    /// Run tests: all, those of a tier, or those of a name
    Test(test::TestArgs),
    /// Check formatting, lints, documentation and licences
    Check,
    /// Build the release files: one static program, as an archive and as a Debian package
    Dist(dist::DistArgs),
}

fn main() -> ExitCode {
    let result = match Xtask::parse().command {
        XtaskCommand::Setup => setup::all().map(|()| ExitCode::SUCCESS),
        XtaskCommand::Build(args) => build::build(&args).map(|_| ExitCode::SUCCESS),
        XtaskCommand::Run(args) => build::run(&args),
        XtaskCommand::Labs(_) => labs::run_labs(),
        XtaskCommand::Test(args) => test::test(&args),
        XtaskCommand::Check => check::check(),
        XtaskCommand::Dist(args) => dist::dist(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
