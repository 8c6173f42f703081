//! The project's own commands, one file each: `cargo xtask --help`.

mod bench;
mod build;
mod check;
mod demo;
mod dist;
mod lab;
mod matrix;
mod screenshot;
mod setup;
mod test;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, build, try and test vmexit.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building and testing need; does nothing where all is there
    Setup,
    /// Build the agent, eBPF object inside
    Build(build::Args),
    /// Build the agent and run it as root: cargo xtask run -- capture
    Run(build::RunArgs),
    /// See it work: a bundled guest under KVM, captured for ten seconds
    Demo(demo::Args),
    /// Run a command in the lab, a stock kernel whose KVM reports exits, with vmexit on board
    Lab(lab::Args),
    /// Draw the README's picture of vmexit top anew, from a guest in the lab
    Screenshot,
    /// Measure what watching costs: each exit by the labs' exact clocks, and the agent itself
    Bench(bench::Args),
    /// Run all tests, on this machine's KVM and in the lab
    Test(test::Args),
    /// Formatting, lints and documentation
    Check,
    /// Make what others install: one static program, as an archive and as a Debian package
    Dist,
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse().verb {
        Verb::Setup => setup::all().map(|()| ExitCode::SUCCESS),
        Verb::Build(args) => build::build(&args).map(|_| ExitCode::SUCCESS),
        Verb::Run(args) => build::run(&args),
        Verb::Demo(args) => demo::demo(&args).map(|()| ExitCode::SUCCESS),
        Verb::Lab(args) => lab::lab(&args),
        Verb::Screenshot => screenshot::screenshot().map(|()| ExitCode::SUCCESS),
        Verb::Bench(args) => bench::bench(&args),
        Verb::Test(args) => test::test(&args),
        Verb::Check => check::check(),
        Verb::Dist => dist::dist().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
