//! `vmexit report`: the report of a recording. Traces nothing.

use std::path::PathBuf;

use clap::Args;
use vmexit_core::event::Event;

use crate::{
    args::{
        MeasurementFormat, PeriodArgs, TableArgs, choice,
        heading::{OUTPUT, TARGET},
    },
    error::Error,
    output::{self, Output},
    session::recorded,
};

/// Arguments of `vmexit report`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// Recording of vmexit capture -o, or directory of vmexit record
    #[arg(value_name = "FILE|DIR")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) period: PeriodArgs,

    /// VM to show, by name or process ID; can be repeated [default: all]
    #[arg(long = "vm", value_name = "NAME|PID", help_heading = TARGET)]
    pub(crate) vms: Vec<String>,

    /// Events to show besides exits by reason [default: all that were captured]
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = choice::<Event>(),
        help_heading = TARGET)]
    pub(crate) events: Vec<Event>,

    /// Format
    #[arg(short, long, value_parser = choice::<MeasurementFormat>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: MeasurementFormat,

    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) tables: TableArgs,
}

const EXAMPLES: &str = "\
Examples:
  vmexit report before.vmexit                        the whole recording
  vmexit report before.vmexit --vm win10 --by vcpu   one VM and its vCPUs
  vmexit report before.vmexit --event ioport         exits by reason and ports
  vmexit report before.vmexit --format html -o x.html
  vmexit report before.vmexit --format csv -o x.csv  see docs/csv.md
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15
  vmexit report /var/lib/vmexit --since 2h --format recording -o night.vmexit

A recording has the names of the host and its VMs, counts and times. It has no command lines and no data of guests.";

pub(super) async fn run(args: ReportArgs) -> Result<(), Error> {
    let mut recording = recorded::read(&args.file, args.period.period())?;
    recorded::filter(&mut recording, &args.vms, &args.events)?;
    let output = Output::open(args.output.as_deref()).await?;
    output.write(output::render(&recording, args.format, &args.tables.options())?).await
}
