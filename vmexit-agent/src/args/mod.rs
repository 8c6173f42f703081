//! Arguments that several commands share. Those of one command are in its module in [`commands`](crate::commands).
//!
//! `--help` shows headings in the order of their first arguments, and a command's own options before shared ones of the
//! same heading, which have a `display_order` from 100.

mod choice;
mod parse;
mod time;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytesize::ByteSize;
use clap::Args;
use vmexit_common::vcpu::MAX_VCPUS;
use vmexit_core::{
    choice::Choice,
    event::Event,
    store::archive::{Limits, Period},
    timing::Timing,
};
use vmexit_view::{By, Figure, ReportFormat, TableOptions};

pub(crate) use self::{
    choice::choice,
    parse::{parse_duration, parse_interval, parse_percent, parse_size, parse_threshold},
    time::{check_period, parse_period, parse_time},
};
use crate::{
    monitor::{self, Virsh},
    probe::plan::Tracepoints,
    sampler::{Duty, Limit},
};

/// Headings of options in `--help`.
pub(crate) mod heading {
    /// VMs, and parts of recordings.
    pub(crate) const TARGET: &str = "Target";
    /// Events, duration, names of devices.
    pub(crate) const CAPTURE: &str = "What to capture";
    /// Limits on the cost of measuring.
    pub(crate) const COST: &str = "Cost";
    /// Format, destination and tables of the output.
    pub(crate) const OUTPUT: &str = "Output";
}

use heading::{CAPTURE, COST, OUTPUT, TARGET};

/// Events to count and time, in which VMs.
#[derive(Debug, Args)]
pub(crate) struct CountArgs {
    #[command(flatten)]
    pub(crate) watch: WatchArgs,

    /// Events to capture besides exits by reason; vmexit alone is cheapest
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = choice::<Event>(),
        default_values_t = Event::ALL, display_order = 100, help_heading = CAPTURE)]
    pub(crate) events: Vec<Event>,

    /// Exits to time: all, one in N (as 1/N), or off; all exits are counted
    #[arg(long, value_name = "all|1/N|off", default_value = "all", help_heading = COST)]
    pub(crate) timing: Timing,

    /// Limit the cost to a share of the VMs' CPU time: time fewer exits, then sample in windows
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = COST)]
    pub(crate) budget: Option<f64>,

    /// Sample in windows: ON/PERIOD, such as 100ms/10s
    #[arg(long, value_name = "ON/PERIOD", conflicts_with = "budget", help_heading = COST)]
    pub(crate) duty: Option<Duty>,
}

impl CountArgs {
    /// Limit on the cost; `None` for full measurement.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.budget.map(Limit::Budget).or(self.duty.map(Limit::Duty))
    }
}

/// VMs to trace, and how.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// VM to trace, by name or process ID; can be repeated [default: all]
    #[arg(long = "vm", value_name = "NAME|PID", help_heading = TARGET)]
    pub(crate) vms: Vec<String>,

    #[command(flatten)]
    pub(crate) devices: DeviceArgs,

    /// Maximum number of vCPUs, some 120 kB of kernel memory each [default: twice as many as run
    /// now, at least 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPUS)),
        help_heading = COST)]
    pub(crate) max_vcpus: Option<u32>,

    /// Kind of tracepoints to attach to
    #[arg(long, value_name = "KIND", value_enum, default_value_t, hide_short_help = true, help_heading = COST)]
    pub(crate) tracepoints: Tracepoints,
}

/// Limits on recordings.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Delete recordings older than TIME
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration, alias = "keep",
        help_heading = OUTPUT)]
    pub(crate) retention: Duration,

    /// Delete the oldest recordings beyond BYTES
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = parse_size, alias = "size",
        help_heading = OUTPUT)]
    pub(crate) max_size: ByteSize,
}

impl LimitArgs {
    /// Limits for the recorder.
    pub(crate) fn limits(&self) -> Limits {
        Limits { retention: self.retention, bytes: self.max_size.as_u64() }
    }
}

/// Period of a recording.
#[derive(Debug, Args)]
pub(crate) struct PeriodArgs {
    /// Start of the period: 03:12 (local time, today or yesterday), '2026-11-23 03:12',
    /// 2026-11-23T03:12:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", requires = "file", value_parser = parse_time, help_heading = TARGET)]
    pub(crate) since: Option<SystemTime>,

    /// End of the period
    #[arg(long, value_name = "TIME", requires = "file", value_parser = parse_time, help_heading = TARGET)]
    pub(crate) until: Option<SystemTime>,
}

impl PeriodArgs {
    /// Period of the options; without them, all time.
    pub(crate) fn period(&self) -> Period {
        Period { since: self.since, until: self.until }
    }
}

/// Format and destination of a measurement.
#[derive(Debug, Args)]
pub(crate) struct WrittenArgs {
    /// Format [default: a recording with --output, else text]
    #[arg(short, long, value_parser = choice::<MeasurementFormat>(), help_heading = OUTPUT)]
    pub(crate) format: Option<MeasurementFormat>,

    /// Write to FILE instead of standard output; without --format, a recording for vmexit report
    /// and diff
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
}

impl WrittenArgs {
    /// Format given, or the default.
    pub(crate) fn format(&self) -> MeasurementFormat {
        let default = if self.output.is_some() {
            MeasurementFormat::Recording
        } else {
            MeasurementFormat::Report(ReportFormat::default())
        };
        self.format.unwrap_or(default)
    }
}

/// Format of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MeasurementFormat {
    /// A report.
    Report(ReportFormat),
    /// The whole measurement, for `vmexit report` and `vmexit diff`.
    Recording,
}

#[rustfmt::skip]
impl Choice for MeasurementFormat {
    const CHOICES: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Report(ReportFormat::Text), ReportFormat::CHOICES[0].1, ReportFormat::CHOICES[0].2),
        (Self::Report(ReportFormat::Json), ReportFormat::CHOICES[1].1, ReportFormat::CHOICES[1].2),
        (Self::Report(ReportFormat::Csv),  ReportFormat::CHOICES[2].1, ReportFormat::CHOICES[2].2),
        (Self::Report(ReportFormat::Html), ReportFormat::CHOICES[3].1, ReportFormat::CHOICES[3].2),
        (Self::Recording, "recording", "The whole measurement, for vmexit report and diff"),
    ];
}

/// Content of tables.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// Tables per VM, or per vCPU too
    #[arg(long, value_name = "WHAT", value_parser = choice::<By>(), default_value = "vm", help_heading = OUTPUT)]
    pub(crate) by: By,

    /// Column to sort rows by, highest first
    #[arg(long, value_name = "COLUMN", value_parser = choice::<Figure>(), default_value = "time",
        help_heading = OUTPUT)]
    pub(crate) sort: Figure,

    /// Maximum rows per table [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), alias = "top",
        help_heading = OUTPUT)]
    pub(crate) rows: Option<u32>,
}

impl TableArgs {
    /// Options of the views.
    pub(crate) fn options(&self) -> TableOptions {
        TableOptions { by: self.by, sort: self.sort, rows: self.rows.map(|rows| rows as usize) }
    }
}

/// Source of device names.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// How to find the devices of ports and addresses
    #[arg(long, value_enum, default_value_t, value_name = "HOW", display_order = 101, help_heading = CAPTURE)]
    pub(crate) devices: Devices,

    /// QMP socket of the VM, if its command line has none; needs --vm
    #[arg(long, value_name = "PATH", requires = "vms", conflicts_with = "devices", display_order = 102,
        help_heading = CAPTURE)]
    pub(crate) qmp: Option<PathBuf>,
}

impl DeviceArgs {
    /// Options for asking VMs; `None` to ask none.
    pub(crate) fn options(&self) -> Option<monitor::MonitorOptions> {
        let virsh = match self.devices {
            Devices::Ask => Virsh::Ask,
            Devices::Qmp => Virsh::Skip,
            Devices::Guess => return None,
        };
        Some(monitor::MonitorOptions { virsh, ..monitor::MonitorOptions::default() })
    }
}

/// Values of `--devices`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Devices {
    /// Ask each QEMU on its QMP socket, or through virsh, which marks the domain as tainted
    /// (custom-monitor)
    #[default]
    Ask,
    /// Ask each QEMU on its QMP socket, not through libvirt
    Qmp,
    /// Ask no VM: use the usual addresses of PC devices
    Guess,
}
