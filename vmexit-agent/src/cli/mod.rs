//! The command line: what was typed ([`args`]), the commands, and how they end ([`error`]).

pub mod args;
mod capture;
mod doctor;
pub mod error;
mod guests;
mod live;
mod output;
mod stop;
mod trace;
mod vms;

use self::{args::Command, error::Error};

/// Runs one command to its end.
///
/// # Errors
/// Whatever stopped it, as one sentence with an exit code.
pub async fn run(cli: args::Cli) -> Result<(), Error> {
    match cli.command {
        Command::Capture(args) => capture::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Vms(args) => vms::run(args).await,
    }
}
