//! The project's own commands, one file each: `cargo xtask --help`.

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
    /// Install what building and testing need; does nothing where all is there
    Setup,
    /// Build the agent, eBPF object inside
    Build(build::BuildArgs),
    /// Build the agent and run it as root: cargo xtask run -- capture
    Run(build::RunArgs),
    #[command(flatten)]
    Labs(labs::LabsCommand),
    /// Run tests: all of them, those of one tier, or those of one name
    Test(test::TestArgs),
    /// Check formatting, lints, documentation and licences
    Check,
    /// Build the release files: one static program, as an archive and as a Debian package
    Dist,
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse().command {
        XtaskCommand::Setup => setup::all().map(|()| ExitCode::SUCCESS),
        XtaskCommand::Build(args) => build::build(&args).map(|_| ExitCode::SUCCESS),
        XtaskCommand::Run(args) => build::run(&args),
        XtaskCommand::Labs(_) => labs::pass_on(),
        XtaskCommand::Test(args) => test::test(&args),
        XtaskCommand::Check => check::check(),
        XtaskCommand::Dist => dist::dist().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
