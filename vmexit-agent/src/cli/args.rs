//! Arguments as typed.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use vmexit_common::vcpu::MOST_VCPUS;

use crate::{
    probe::{Event, Timing, plan::Tracepoints},
    view::Format,
};

/// What KVM guests exit for, and what it costs.
#[derive(Debug, Parser)]
#[command(name = "vmexit", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count and time every VM exit for a while, then report
    Capture(CaptureArgs),
    /// Say what a capture would meet on this host, and what to do about it
    Doctor(DoctorArgs),
    /// List the VMs that run on this host, and what is known of each
    Vms(VmsArgs),
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
    /// How long to capture; ctrl-c ends it early and still reports
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,

    /// Only this VM, by name or process id; can be given several times
    #[arg(long = "vm", value_name = "NAME|PID")]
    pub vms: Vec<String>,

    /// How to write the report
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,

    /// Write the report to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Room for this many vCPUs, some 80 kB of kernel memory each [default: twice as many as run
    /// now, at least 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_VCPUS)))]
    pub max_vcpus: Option<u32>,

    /// What to capture besides exits by reason; vmexit alone is cheapest
    #[arg(long = "event", value_enum, value_name = "EVENT", value_delimiter = ',',
        default_values_t = Event::ALL)]
    pub events: Vec<Event>,

    /// Which exits to time: all, one in N (as 1/N), or off; all are counted
    #[arg(long, value_name = "all|1/N|off", default_value = "all")]
    pub timing: Timing,

    /// Which tracepoints to use
    #[arg(long, value_enum, default_value_t, hide_short_help = true)]
    pub tracepoints: Tracepoints,

    /// No progress line
    #[arg(short, long)]
    pub quiet: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when ctrl-c ended it early
  1  something unexpected failed
  2  wrong usage
  3  not permitted
  4  this host can't be traced: no KVM, no tracefs, a tracepoint or kernel feature missing
  5  no VM is running
  6  no such VM
  7  the report can't be written";

const CAPTURE_EXAMPLES: &str = "\
Examples:
  vmexit capture                          all VMs, 10 seconds
  vmexit capture --vm win10 -d 1m         one VM, one minute
  vmexit capture --format json -o x.json  for a program to read";

const VMS_EXAMPLES: &str = "\
Examples:
  vmexit vms                                   a table, by name
  vmexit vms --format json | jq '.vms[].pid'   for a program to read

Every process that holds a KVM VM is listed, whichever VMM it is.";

/// The longest capture: a month. Whoever wants more wants a recorder.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

fn parse_duration(text: &str) -> Result<Duration, String> {
    // A bare number is seconds, as in `sleep`.
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => humantime::parse_duration(text)
            .map_err(|error| format!("{error}; write it like 10s, 1m30s or 500ms"))?,
    };
    if parsed.is_zero() || parsed > LONGEST {
        return Err("a capture takes more than nothing and at most 31 days".into());
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "0s", "-1s", "ten", "2months"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
