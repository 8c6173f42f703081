//! The command line: what was typed ([`args`]), the commands, what they warn of ([`warnings`]), and how
//! they end ([`error`]).

pub mod args;
mod capture;
mod config;
mod diff;
mod doctor;
pub mod error;
mod explain;
mod guests;
mod help;
mod import;
mod live;
mod output;
mod record;
mod report;
mod screen;
mod serve;
mod service;
mod stop;
mod top;
mod trace;
mod vms;
pub mod warnings;

use self::{args::Command, error::Error};

/// Runs one command to its end.
///
/// # Errors
/// Whatever stopped it, as one sentence with an exit code.
pub async fn run(cli: args::Cli) -> Result<(), Error> {
    match cli.command {
        Command::Capture(args) => capture::run(args).await,
        Command::Completions(args) => help::completions(&args).await,
        Command::Diff(args) => diff::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Man(args) => help::man(&args),
        Command::Record(args) => record::run(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Vms(args) => vms::run(args).await,
    }
}
