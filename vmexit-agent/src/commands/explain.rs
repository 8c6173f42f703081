//! `vmexit explain`: findings about the exits of running VMs or of a recording.

use std::path::PathBuf;

use clap::Args;
use vmexit_core::{event::Event, finding, measurement::Measurement, report::Scope};
use vmexit_view::Format;

use super::capture::{self, MeasureArgs};
use crate::{
    args::{PeriodArgs, choice, heading::OUTPUT},
    error::Error,
    output::Output,
    session::recorded,
};

/// Arguments of `vmexit explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// Recording of vmexit capture -o, or directory of vmexit record [default: capture now]
    #[arg(value_name = "FILE|DIR", conflicts_with_all = [
        "duration", "timing", "devices", "qmp", "max_vcpus", "tracepoints", "quiet",
    ])]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) period: PeriodArgs,

    #[command(flatten)]
    pub(crate) measure: MeasureArgs,

    /// Format; JSON is the whole report
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,

    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  vmexit explain                            all VMs, after 10 seconds
  vmexit explain --vm win10 -d 1m           one VM, one minute
  vmexit explain before.vmexit              a recording, on any machine
  vmexit explain --format json | jq '.vms[] | {name, findings}'

Rules, thresholds and sources: docs/findings.md.";

pub(super) async fn run(args: ExplainArgs) -> Result<(), Error> {
    let ExplainArgs { file, period, measure, format, output } = args;
    let output = Output::open(output.as_deref()).await?;
    let measurement = match file {
        Some(file) => filtered(recorded::read(&file, period.period())?, &measure)?,
        None => capture::measure(&measure).await?,
    };
    output
        .write(vmexit_view::explained(finding::report(&measurement, Scope::default()), format)?)
        .await
}

/// The recording, with only the VMs and events given in the arguments.
fn filtered(mut recording: Measurement, args: &MeasureArgs) -> Result<Measurement, Error> {
    let events = &args.count.events;
    let all = events.len() == Event::ALL.len();
    recorded::filter(&mut recording, &args.count.watch.vms, if all { &[] } else { events })?;
    Ok(recording)
}
