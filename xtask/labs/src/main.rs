//! Commands of xtask that start guests and labs, one file each. `cargo xtask` runs this program for them. It is a
//! program of its own because it links the test harness, for which no other command should wait.

mod bench;
mod demo;
mod lab;
mod matrix;
mod screenshot;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use vmexit_tests::lab::{default_cache, unpack_package};
use xtask::labs::{LabsCommand, UnpackArgs};

/// Start guests and labs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct LabsXtask {
    #[command(subcommand)]
    command: LabsCommand,
}

fn main() -> ExitCode {
    let result = match LabsXtask::parse().command {
        LabsCommand::Demo(args) => demo::demo(&args).map(|()| ExitCode::SUCCESS),
        LabsCommand::Lab(args) => lab::lab(&args),
        LabsCommand::Screenshot => screenshot::screenshot().map(|()| ExitCode::SUCCESS),
        LabsCommand::Bench(args) => bench::bench(&args),
        LabsCommand::Unpack(args) => unpack(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn unpack(args: &UnpackArgs) -> Result<()> {
    Ok(unpack_package(&default_cache(), &args.package, &args.version, &args.directory)?)
}
