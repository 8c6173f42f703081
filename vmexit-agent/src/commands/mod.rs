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
  4  this host can't be traced: KVM, tracefs, or a kernel feature is missing
  5  no VM is running
  6  no such VM
  7  the output can't be written
  8  a file can't be read: missing, damaged, not a recording, or too new";

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
    /// Check whether this host can be traced, with a remedy for each problem
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
    use crate::args::heading;

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
    fn cli_definition_is_consistent() {
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

    /// The program's commands, complete with global arguments.
    fn built() -> clap::Command {
        let mut cli = Cli::command();
        cli.build();
        cli
    }

    /// Help of a command as on a terminal of the given width.
    fn help(command: &clap::Command, width: usize, long: bool) -> String {
        let mut command = command.clone().term_width(width);
        let help = if long { command.render_long_help() } else { command.render_help() };
        help.to_string()
    }

    /// Texts that help pages of a command contain, each with the name of its place.
    fn texts(command: &clap::Command) -> Vec<(String, String)> {
        let name = command.get_name();
        let of_command = [
            command.get_about(),
            command.get_long_about(),
            command.get_before_help(),
            command.get_before_long_help(),
            command.get_after_help(),
            command.get_after_long_help(),
        ];
        let of_command = of_command.into_iter().map(|text| (name.to_owned(), text));
        let of_arguments = command.get_arguments().flat_map(|argument| {
            let texts = [argument.get_help(), argument.get_long_help()];
            texts.map(|text| (format!("{name} {argument}"), text))
        });
        let texts = of_command.chain(of_arguments);
        texts.filter_map(|(place, text)| Some((place, text?.to_string()))).collect()
    }

    #[test]
    fn old_options_are_hidden_in_help() {
        for command in commands(&built()) {
            let name = command.get_name();
            for argument in command.get_arguments() {
                let visible = argument.get_visible_aliases().unwrap_or_default();
                assert!(visible.is_empty(), "{name} {argument}: {visible:?}");
                let visible = argument.get_visible_short_aliases().unwrap_or_default();
                assert!(visible.is_empty(), "{name} {argument}: {visible:?}");
            }
        }
    }

    #[test]
    fn sort_accepts_fields_and_hides_them_in_help() {
        assert_eq!(parsed("capture --sort total_ns"), parsed("capture --sort time"));
        assert_eq!(parsed("top --sort userspace_ns"), parsed("top --sort user"));
        assert_ne!(parsed("report FILE --sort p99_ns"), parsed("report FILE"));
        assert!(Cli::try_parse_from(["vmexit", "capture", "--sort", "stddev"]).is_err());
        let cli = built();
        let capture = cli.find_subcommand("capture").unwrap();
        let help = help(capture, 100, true);
        assert!(help.contains("- time:") && !help.contains("total_ns"), "{help}");
    }

    #[test]
    fn options_of_commands_have_help_headings_in_order() {
        const ORDER: [&str; 4] =
            [heading::TARGET, heading::CAPTURE, heading::COST, heading::OUTPUT];
        for command in commands(&built()) {
            let name = command.get_name();
            let mut shown = Vec::new();
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                if matches!(argument.get_id().as_str(), "help" | "version") {
                    continue;
                }
                let heading = argument.get_help_heading();
                let place = ORDER.iter().position(|known| Some(*known) == heading);
                let place = place.unwrap_or_else(|| panic!("{name} {argument}: {heading:?}"));
                if !shown.contains(&place) {
                    shown.push(place);
                }
            }
            assert!(shown.is_sorted(), "{name}: {shown:?} of {ORDER:?}");
        }
    }

    /// Line feeds in a text stay when clap wraps it. They are thus allowed only between paragraphs, and in lists, whose
    /// lines fit a terminal of 80 columns.
    #[test]
    fn help_texts_have_line_breaks_in_lists_only() {
        for command in commands(&built()) {
            for (place, text) in texts(command) {
                for paragraph in text.split("\n\n") {
                    let mut lines = paragraph.lines();
                    let first = lines.next().unwrap_or_default();
                    let list: Vec<&str> = lines.collect();
                    assert!(list.is_empty() || first.ends_with(':'), "{place}: {paragraph}");
                    for line in list {
                        assert!(line.starts_with("  "), "{place}: {line}");
                        let columns = line.chars().count();
                        assert!(columns <= 80, "{place}: {columns} columns: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn help_fits_80_and_100_columns() {
        for command in commands(&built()) {
            for (width, long) in [(80, false), (80, true), (100, false), (100, true)] {
                let help = help(command, width, long);
                for line in help.lines() {
                    let columns = line.chars().count();
                    assert!(columns <= width, "{}: {columns}: {line}", command.get_name());
                }
                // Lists are not wrapped.
                let list = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                for line in list.lines().filter(|line| line.starts_with("  ")) {
                    assert!(help.lines().any(|shown| shown == line), "{help}\n{line}");
                }
            }
        }
    }
}
