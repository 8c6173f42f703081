//! The command line: one module per command, with its arguments.

pub(crate) mod capture;
mod completions;
mod diff;
mod doctor;
#[cfg(test)]
mod documented;
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
  0  done, also if ctrl-c ended it early
  1  unexpected failure
  2  wrong usage
  3  not permitted
  4  this host can't be traced: no KVM, no tracefs, a tracepoint or kernel feature missing
  5  no VM is running
  6  no such VM
  7  the output can't be written
  8  a file can't be read: missing, not a recording, damaged, or of a newer version";

/// Count and time the VM exits of KVM guests, by reason and by device
#[derive(Debug, Parser)]
#[command(name = "vmexit", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Parses the arguments of this process. Without arguments on a terminal, they are those of `vmexit top`.
    pub fn from_env() -> Self {
        if env::args_os().len() == 1 && stdout().is_terminal() {
            Self::parse_from(["vmexit", "top"])
        } else {
            Self::parse()
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch VM exits live; the default on a terminal
    Top(top::TopArgs),
    /// Find exits worth avoiding, and the settings to change
    Explain(explain::ExplainArgs),
    /// Count and time every VM exit for a while, then report
    Capture(capture::CaptureArgs),
    /// Show a recording as a report
    Report(report::ReportArgs),
    /// Compare two recordings: exits gone and new, time saved
    Diff(diff::DiffArgs),
    /// Import the measurements of another program
    Import(import::ImportArgs),
    /// Count continuously and serve metrics to Prometheus
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

/// Runs a command to its end.
///
/// # Errors
/// The command fails; the error has a message for the user and an exit code.
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

    /// Old spellings of options, which stay valid and hidden, and the new ones.
    const OLD_AND_NEW: [(&str, &str); 12] = [
        ("record DIR --every 1m", "record DIR --interval 1m"),
        ("record DIR -e 1m", "record DIR -i 1m"),
        ("record DIR --keep 7days", "record DIR --retention 7days"),
        ("record DIR --size 10MiB", "record DIR --max-size 10MiB"),
        ("serve --record DIR --keep 7days", "serve --record DIR --retention 7days"),
        ("serve --record DIR --size 10MiB", "serve --record DIR --max-size 10MiB"),
        ("capture --top 5", "capture --rows 5"),
        ("report FILE --top 5", "report FILE --rows 5"),
        ("top --batch --top 5", "top --batch --rows 5"),
        ("diff BEFORE AFTER --top 5", "diff BEFORE AFTER --rows 5"),
        ("import perf FILE --top 5", "import perf FILE --rows 5"),
        (
            "diff DIR --before 2026-11-23T02:00:00Z..2026-11-23T03:00:00Z --after 2026-11-23T03:00:00Z..",
            "diff DIR --before-period 2026-11-23T02:00:00Z..2026-11-23T03:00:00Z \
             --after-period 2026-11-23T03:00:00Z..",
        ),
    ];

    /// Values of a command line, as debug text.
    fn parsed(line: &str) -> String {
        let words = ["vmexit"].into_iter().chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        format!("{cli:?}")
    }

    /// All commands and their subcommands.
    fn commands(command: &clap::Command) -> Vec<&clap::Command> {
        let inner = command.get_subcommands().flat_map(commands);
        [command].into_iter().chain(inner).collect()
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_options_parse_to_the_same_values() {
        for (old, new) in OLD_AND_NEW {
            assert_eq!(parsed(old), parsed(new), "{old}");
            // The values are in the text, so that equal texts are equal values.
            let without = new.split(" -").next().unwrap_or_default();
            if Cli::try_parse_from(["vmexit"].into_iter().chain(without.split(' '))).is_ok() {
                assert_ne!(parsed(new), parsed(without), "{new}");
            }
        }
    }

    #[test]
    fn old_options_are_hidden_in_help() {
        let mut cli = Cli::command();
        cli.build();
        for command in commands(&cli) {
            for argument in command.get_arguments() {
                assert_eq!(
                    argument.get_visible_aliases(),
                    None,
                    "{} {argument}",
                    command.get_name()
                );
                assert_eq!(argument.get_visible_short_aliases(), None, "{argument}");
            }
        }
    }

    #[test]
    fn options_of_commands_have_help_headings() {
        let mut cli = Cli::command();
        cli.build();
        for command in commands(&cli) {
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                let is_general = matches!(argument.get_id().as_str(), "help" | "version");
                assert_eq!(
                    argument.get_help_heading().is_none(),
                    is_general,
                    "{} {argument}",
                    command.get_name()
                );
            }
        }
    }
}
