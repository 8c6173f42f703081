//! The command line: one file per command, with its arguments.

pub(crate) mod capture;
mod completions;
mod diff;
mod doctor;
mod explain;
mod import;
mod record;
mod report;
mod serve;
mod top;
mod trace;
mod vms;

use std::{
    env,
    io::{IsTerminal as _, stdout},
};

use clap::{Parser, Subcommand};

use crate::error::Error;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when ctrl-c ended it early
  1  unexpected failure
  2  wrong usage
  3  not permitted
  4  this host can't be traced: no KVM, no tracefs, a tracepoint or kernel feature missing
  5  no VM is running
  6  no such VM
  7  the report can't be written
  8  a file can't be read: missing, no recording, damaged, of a newer version";

/// Which exits KVM guests take, from which device, and what they cost.
#[derive(Debug, Parser)]
#[command(name = "vmexit", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// The arguments of this process. None at all, on a terminal, is `top`.
    pub fn typed() -> Self {
        if env::args_os().len() == 1 && stdout().is_terminal() {
            Self::parse_from(["vmexit", "top"])
        } else {
            Self::parse()
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch VM exits live; what vmexit does on a terminal without arguments
    Top(top::TopArgs),
    /// Find exits that are worth a change, and the change
    Explain(explain::ExplainArgs),
    /// Count and time every VM exit for a while, then report
    Capture(capture::CaptureArgs),
    /// Show a recording as the capture would have shown it
    Report(report::ReportArgs),
    /// Compare two recordings: exits gone and new, time saved
    Diff(diff::DiffArgs),
    /// Import what another program has measured
    Import(import::ImportArgs),
    /// Count continuously, and serve metrics to Prometheus
    Serve(serve::ServeArgs),
    /// Record continuously to a directory
    Record(record::RecordArgs),
    /// Show single slow exits as they happen
    Trace(trace::TraceArgs),
    /// List the VMs on this host
    Vms(vms::VmsArgs),
    /// Check whether this host can be traced, and how to fix what can't
    Doctor(doctor::DoctorArgs),
    /// Write a shell's completions to standard output
    Completions(completions::CompletionsArgs),
    /// Write manual pages into a directory
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// Runs one command to its end.
///
/// # Errors
/// Whatever stopped it, as one sentence with an exit code.
pub async fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Capture(args) => capture::run(args).await,
        Command::Completions(args) => completions::completions(&args).await,
        Command::Diff(args) => diff::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Man(args) => completions::man(&args),
        Command::Record(args) => record::run(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Vms(args) => vms::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
