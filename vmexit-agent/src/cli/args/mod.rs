//! Arguments as typed.

mod examples;
mod parse;
mod time;

use std::{
    env,
    io::{IsTerminal as _, stdout},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use clap_complete::Shell;
use vmexit_common::vcpu::MAX_VCPUS;

use self::{
    examples::{
        CAPTURE_EXAMPLES, COMPLETIONS_EXAMPLES, DIFF_EXAMPLES, EXIT_CODES, EXPLAIN_EXAMPLES,
        IMPORT_EXAMPLES, RECORD_EXAMPLES, REPORT_EXAMPLES, SERVE_EXAMPLES, TOP_EXAMPLES,
        TRACE_EXAMPLES, VMS_EXAMPLES,
    },
    parse::{parse_duration, parse_percent, parse_size, parse_threshold},
    time::{parse_period, parse_time},
};
pub(super) use self::{parse::parse_interval, time::check};
use crate::{
    model::{By, Layout, Sort},
    monitor::{self, Virsh},
    probe::{Event, Timing, plan::Tracepoints},
    recording::archive::{Limits, Period},
    sampler::{Duty, Limit},
    view::{Format, ReportFormat, top::keys},
};

/// What KVM guests exit for, and what it costs.
#[derive(Debug, Parser)]
#[command(name = "vmexit", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What was typed. Nothing at all, on a terminal, is `top`.
    pub fn typed() -> Self {
        if env::args_os().len() == 1 && stdout().is_terminal() {
            Self::parse_from(["vmexit", "top"])
        } else {
            Self::parse()
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch live what VMs exit for; what vmexit does on a terminal if it is not told anything
    Top(TopArgs),
    /// Say what of the exits is worth a change, and which change
    Explain(ExplainArgs),
    /// Count and time every VM exit for a while, then report
    Capture(CaptureArgs),
    /// Show what a recording has, as the capture would have shown it
    Report(ReportArgs),
    /// Compare two recordings: what went away, what came, what that saved
    Diff(DiffArgs),
    /// Take over what another program has measured
    Import(ImportArgs),
    /// Count all day, for Prometheus to ask
    Serve(ServeArgs),
    /// Record all day, for whoever wants to know later
    Record(RecordArgs),
    /// Show single exits that take long, as they happen
    Trace(TraceArgs),
    /// List the VMs that run on this host, and what is known of each
    Vms(VmsArgs),
    /// Say what a capture would meet on this host, and what to do about it
    Doctor(DoctorArgs),
    /// Write a shell's completions to standard output
    Completions(CompletionsArgs),
    /// Write manual pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
}

/// Arguments of `vmexit trace`.
#[derive(Debug, Args)]
#[command(after_help = TRACE_EXAMPLES)]
pub struct TraceArgs {
    /// Show exits that take this long or longer, from exit to entry
    #[arg(short, long, value_name = "TIME", default_value = "1ms", value_parser = parse_threshold)]
    pub slower_than: Duration,

    /// Exits in which the vCPU only waits (HLT) too
    #[arg(long)]
    pub waiting: bool,

    /// How long to look [default: until ctrl-c]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// End after so many exits
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// How to write an exit: as a line of a table, or as a JSON object on a line
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,

    /// Which VMs, and how.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Arguments of `vmexit top`.
#[derive(Debug, Args)]
#[command(after_help = format!("{TOP_EXAMPLES}\n\n{}", keys::text()))]
pub struct TopArgs {
    /// From one reading to the next [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval)]
    pub interval: Option<Duration>,

    /// What to put first [default: time]
    #[arg(long, value_enum, value_name = "FIGURE")]
    pub sort: Option<Sort>,

    /// What of a VM to show first: its exits, or its vCPUs; with --batch each vCPU's tables too
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub by: By,

    /// Print a report for each interval, as text; always so where standard output is no terminal
    #[arg(short, long)]
    pub batch: bool,

    /// End after so many intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,

    /// With --batch, at most so many rows of each table
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,

    /// What to show.
    #[command(flatten)]
    pub replay: ReplayArgs,

    /// What to count.
    #[command(flatten)]
    pub count: CountArgs,

    /// Configuration file [default: ~/.config/vmexit/config.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to show in place of VMs that run.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Show what was recorded, an interval each --interval: a recording, or a directory of `vmexit record`
    #[arg(long = "replay", id = "file", value_name = "FILE|DIR", conflicts_with_all = [
        "timing", "budget", "duty", "devices", "qmp", "max_vcpus", "tracepoints",
    ])]
    pub file: Option<PathBuf>,

    /// What part of it.
    #[command(flatten)]
    pub period: PeriodArgs,
}

/// Arguments of `vmexit completions`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// Which shell's
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `vmexit man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A directory that is there
    pub directory: PathBuf,
}

/// Arguments of `vmexit vms`.
#[derive(Debug, Args)]
#[command(after_help = VMS_EXAMPLES)]
pub struct VmsArgs {
    /// How to write the list
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `vmexit doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to write the findings
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `vmexit capture`.
#[derive(Debug, Args)]
#[command(after_help = CAPTURE_EXAMPLES)]
pub struct CaptureArgs {
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,

    /// What to write, and where.
    #[command(flatten)]
    pub written: WrittenArgs,

    /// How tables are to be.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// One capture: of what, and for how long.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// How long to capture; ctrl-c ends it early and still reports
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,

    /// What to count.
    #[command(flatten)]
    pub count: CountArgs,

    /// No progress line
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `vmexit explain`.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub struct ExplainArgs {
    /// A recording that `vmexit capture -o FILE` wrote, or a directory of `vmexit record`; without one,
    /// what runs now is captured
    #[arg(conflicts_with_all = [
        "duration", "timing", "devices", "qmp", "max_vcpus", "tracepoints", "quiet",
    ])]
    pub file: Option<PathBuf>,

    /// What part of it.
    #[command(flatten)]
    pub period: PeriodArgs,

    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,

    /// How to write it; JSON is the whole report
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,

    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What is counted and timed of the VMs that are watched.
#[derive(Debug, Args)]
pub struct CountArgs {
    /// Which VMs, and how.
    #[command(flatten)]
    pub watch: WatchArgs,

    /// What to capture besides exits by reason; vmexit alone is cheapest
    #[arg(long = "event", value_enum, value_name = "EVENT", value_delimiter = ',',
        default_values_t = Event::ALL)]
    pub events: Vec<Event>,

    /// Which exits to time: all, one in N (as 1/N), or off; all are counted
    #[arg(long, value_name = "all|1/N|off", default_value = "all")]
    pub timing: Timing,

    /// Let it cost no more than this share of the CPU time that the VMs take: time fewer exits, and if that is
    /// not enough, count them at times only
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub budget: Option<f64>,

    /// Count at times only: for so long, once in so long, like 100ms/10s
    #[arg(long, value_name = "TIME/TIME", conflicts_with = "budget")]
    pub duty: Option<Duty>,
}

impl CountArgs {
    /// What it is to be limited to, if to anything.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.budget.map(Limit::Budget).or(self.duty.map(Limit::Duty))
    }
}

/// Which VMs are watched, and how.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only this VM, by name or process id; can be given several times
    #[arg(long = "vm", value_name = "NAME|PID")]
    pub vms: Vec<String>,

    /// Where devices' names come from.
    #[command(flatten)]
    pub devices: DeviceArgs,

    /// Room for this many vCPUs, some 120 kB of kernel memory each [default: twice as many as run
    /// now, at least 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPUS)))]
    pub max_vcpus: Option<u32>,

    /// Which tracepoints to use
    #[arg(long, value_enum, default_value_t, hide_short_help = true)]
    pub tracepoints: Tracepoints,
}

/// Arguments of `vmexit serve`.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// Where to listen
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9762")]
    pub listen: SocketAddr,

    /// How often to read the counters
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_interval)]
    pub interval: Duration,

    /// Record each interval into this directory too, as `vmexit record` does
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,

    /// How much of that.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// What to count.
    #[command(flatten)]
    pub count: CountArgs,
}

/// Arguments of `vmexit record`.
#[derive(Debug, Args)]
#[command(after_help = RECORD_EXAMPLES)]
pub struct RecordArgs {
    /// Directory for the recordings; it is made if it is not there
    pub directory: PathBuf,

    /// Length of an interval: as exact as it can be told later when something was
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_interval)]
    pub every: Duration,

    /// How much.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// What to count.
    #[command(flatten)]
    pub count: CountArgs,
}

/// How much is kept of what is recorded.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Keep the last so much of what was recorded; older intervals go
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    pub keep: Duration,

    /// Keep no more than so many bytes, whatever time that is
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = parse_size)]
    pub size: ByteSize,
}

impl LimitArgs {
    /// The same for the recorder.
    pub(super) fn limits(&self) -> Limits {
        Limits { keep: self.keep, bytes: self.size.as_u64() }
    }
}

/// What part of a recording, or of a directory of them.
#[derive(Debug, Args)]
pub struct PeriodArgs {
    /// Only from this time on: 03:12 (local time, the latest that has been), '2026-11-23 03:12',
    /// 2026-11-23T03:12:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", requires = "file", value_parser = parse_time)]
    pub since: Option<SystemTime>,

    /// Only until this time
    #[arg(long, value_name = "TIME", requires = "file", value_parser = parse_time)]
    pub until: Option<SystemTime>,
}

impl PeriodArgs {
    /// The period.
    pub(super) fn period(&self) -> Period {
        Period { since: self.since, until: self.until }
    }
}

/// Arguments of `vmexit report`.
#[derive(Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// A recording that `vmexit capture -o FILE` wrote, or a directory of `vmexit record`
    pub file: PathBuf,

    /// What part of it.
    #[command(flatten)]
    pub period: PeriodArgs,

    /// Only this VM, by name or process id; can be given several times
    #[arg(long = "vm", value_name = "NAME|PID")]
    pub vms: Vec<String>,

    /// What to show besides exits by reason [default: all that was captured]
    #[arg(long = "event", value_enum, value_name = "EVENT", value_delimiter = ',')]
    pub events: Vec<Event>,

    /// How to write the report
    #[arg(short, long, value_enum, default_value = "text")]
    pub format: Written,

    /// Write the report to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How tables are to be.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `vmexit import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// From what.
    #[command(subcommand)]
    pub from: ImportFrom,
}

/// What can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// Text of `perf script` with KVM's events, as `perf kvm stat record` records them
    Perf(ImportPerfArgs),
}

/// Arguments of `vmexit import perf`.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportPerfArgs {
    /// The text; - for standard input
    pub file: PathBuf,

    /// Only this VM, by process id, where the text has it; can be given several times
    #[arg(long = "vm", value_name = "PID")]
    pub vms: Vec<String>,

    /// What to write, and where.
    #[command(flatten)]
    pub written: WrittenArgs,

    /// How tables are to be.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `vmexit diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArgs {
    /// The recording to compare with, or a directory of `vmexit record`
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,

    /// The recording that is compared, likewise [default: the same directory, at another time]
    #[arg(value_name = "AFTER", required_unless_present_any = ["before_period", "after_period"])]
    pub after: Option<PathBuf>,

    /// Of BEFORE only this period, like 02:00..03:00; times as in `vmexit report --since`
    #[arg(long = "before", id = "before_period", value_name = "SINCE..UNTIL", value_parser = parse_period)]
    pub before_period: Option<Period>,

    /// Of AFTER only this period
    #[arg(long = "after", id = "after_period", value_name = "SINCE..UNTIL", value_parser = parse_period)]
    pub after_period: Option<Period>,

    /// Only this VM, by name or process id in either; can be given several times
    #[arg(long = "vm", value_name = "NAME|PID")]
    pub vms: Vec<String>,

    /// What to compare besides exits by reason [default: all that was captured]
    #[arg(long = "event", value_enum, value_name = "EVENT", value_delimiter = ',')]
    pub events: Vec<Event>,

    /// At most so many rows of each table
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,

    /// How to write it
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,

    /// Write it to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What is written of what was measured, and where.
#[derive(Debug, Args)]
pub struct WrittenArgs {
    /// How to write it [default: a recording with --output, else text]
    #[arg(short, long, value_enum)]
    pub format: Option<Written>,

    /// Write to FILE instead of standard output; without --format a recording, which `vmexit report`
    /// shows and `vmexit diff` compares
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl WrittenArgs {
    /// How to write it.
    pub(super) fn format(&self) -> Written {
        let default = if self.output.is_some() {
            Written::Recording
        } else {
            Written::Report(ReportFormat::default())
        };
        self.format.unwrap_or(default)
    }
}

/// What is written of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// A report of it.
    Report(ReportFormat),
    /// All of it, for `vmexit report` and `vmexit diff`.
    Recording,
}

impl ValueEnum for Written {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Report(ReportFormat::Text),
            Self::Report(ReportFormat::Json),
            Self::Report(ReportFormat::Csv),
            Self::Report(ReportFormat::Html),
            Self::Recording,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Report(format) => format.to_possible_value(),
            Self::Recording => Some(
                PossibleValue::new("recording")
                    .help("All of it, for `vmexit report` and `vmexit diff`"),
            ),
        }
    }
}

/// How tables are to be.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Whose tables to show: each VM's, or each vCPU's too
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub by: By,

    /// What to put first
    #[arg(long, value_enum, default_value_t, value_name = "FIGURE")]
    pub sort: Sort,

    /// At most so many rows of each table
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
}

impl TableArgs {
    /// The same for the model.
    pub(super) fn layout(&self) -> Layout {
        let top = self.top.map(|top| top as usize);
        Layout { by: self.by, sort: self.sort, top, ..Layout::default() }
    }
}

/// Where devices' names come from.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// How to know which devices ports and addresses belong to
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub devices: Devices,

    /// QMP socket of the VM, where its command line does not tell; needs --vm
    #[arg(long, value_name = "PATH", requires = "vms", conflicts_with = "devices")]
    pub qmp: Option<PathBuf>,
}

impl DeviceArgs {
    /// How to ask a VM; `None` for not at all.
    pub(super) fn options(&self) -> Option<monitor::Options> {
        let virsh = match self.devices {
            Devices::Ask => Virsh::Ask,
            Devices::Qmp => Virsh::Leave,
            Devices::Guess => return None,
        };
        Some(monitor::Options { virsh, ..monitor::Options::default() })
    }
}

/// How to know which devices there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Devices {
    /// Ask each QEMU on its QMP socket; through virsh if libvirt has it, which marks the domain as
    /// tainted (custom-monitor)
    #[default]
    Ask,
    /// The same without libvirt
    Qmp,
    /// Ask nobody: what PCs commonly have
    Guess,
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
