//! `vmexit report`: what a recording has, as the capture would have shown it. Nothing is traced.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{args::Written, error::Error, output::Output, session::guests};
use vmexit_core::{event::Event, measurement::Measurement, report::Scope, store::{Sum, archive::{self, Period}, file::{self, FileError}}};

/// Arguments of `vmexit report`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// A recording that `vmexit capture -o FILE` wrote, or a directory of `vmexit record`
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) period: PeriodArgs,

    /// Only this VM, by name or process id; can be given several times
    #[arg(long = "vm", value_name = "NAME|PID", help_heading = TARGET)]
    pub(crate) vms: Vec<String>,

    /// What to show besides exits by reason [default: all that was captured]
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = choice::<Event>(), help_heading = TARGET)]
    pub(crate) events: Vec<Event>,

    /// How to write the report
    #[arg(short, long, value_parser = choice::<Written>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Written,

    /// Write the report to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) tables: TableArgs,
}

const EXAMPLES: &str = "\
Examples:
  vmexit report before.vmexit                        all of it
  vmexit report before.vmexit --vm win10 --by vcpu   one VM, and each of its vCPUs
  vmexit report before.vmexit --event ioport         exits by reason and ports
  vmexit report before.vmexit --format html -o x.html  one page, to be read and sent
  vmexit report before.vmexit --format csv -o x.csv  for a spreadsheet: docs/csv.md
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15 --format recording -o night.vmexit

A recording has no command lines, no guest memory and no data that guests wrote: names of the host and
its VMs, counts and times.";

pub(super) async fn run(args: ReportArgs) -> Result<(), Error> {
    let mut recording = read(&args.file, args.period.period())?;
    keep(&mut recording, &args.vms, &args.events)?;
    let output = Output::open(args.output.as_deref()).await?;
    output.write(written(&recording, args.format, &args.tables.options())?).await
}
