//! `vmexit explain`: what of the exits is worth a change, of running VMs or from a recording.

use super::{capture::{self, MeasureArgs}, report};
use crate::{error::Error, output::Output};
use vmexit_core::{event::Event, measurement::Measurement, report::Scope};

/// Arguments of `vmexit explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// A recording that `vmexit capture -o FILE` wrote, or a directory of `vmexit record`; without one,
    /// what runs now is captured
    #[arg(conflicts_with_all = [
        "duration", "timing", "devices", "qmp", "max_vcpus", "tracepoints", "quiet",
    ])]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) period: PeriodArgs,

    #[command(flatten)]
    pub(crate) measure: MeasureArgs,

    /// How to write it; JSON is the whole report
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
  vmexit explain before.vmexit              what was recorded, on any machine
  vmexit explain --format json | jq '.vms[] | {name, findings}'

What vmexit looks for, from when on it says so, and where its advice comes from: docs/findings.md.";

pub(super) async fn run(args: ExplainArgs) -> Result<(), Error> {
    let ExplainArgs { file, period, measure, format, output } = args;
    let output = Output::open(output.as_deref()).await?;
    let recording = match file {
        Some(file) => kept(recorded::read(&file, period.period())?, &measure)?,
        None => capture::measure(&measure).await?,
    };
    output.write(vmexit_view::explained(&recording.report(Layout::default()), format)?).await
}

/// The VMs and events of a recording that were asked for, if any were.
fn kept(mut recording: Measurement, asked: &MeasureArgs) -> Result<Measurement, Error> {
    let events = &asked.count.events;
    let all = events.len() == Event::ALL.len();
    recorded::keep(&mut recording, &asked.count.watch.vms, if all { &[] } else { events })?;
    Ok(recording)
}
