//! `vmexit diff`: two recordings beside each other. Nothing is traced.

use crate::{error::Error, output::Output, session::guests};
use super::report;
use vmexit_core::diff::Diff;

/// Arguments of `vmexit diff`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The recording to compare with, or a directory of `vmexit record`
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,

    /// The recording that is compared, likewise [default: the same directory, at another time]
    #[arg(value_name = "AFTER", required_unless_present_any = ["before_period", "after_period"])]
    pub(crate) after: Option<PathBuf>,

    /// Of BEFORE only this period, like 02:00..03:00; times as in `vmexit report --since`
    #[arg(long = "before", id = "before_period", value_name = "SINCE..UNTIL", value_parser = parse_period)]
    pub(crate) before_period: Option<Period>,

    /// Of AFTER only this period
    #[arg(long = "after", id = "after_period", value_name = "SINCE..UNTIL", value_parser = parse_period)]
    pub(crate) after_period: Option<Period>,

    /// Only this VM, by name or process id in either; can be given several times
    #[arg(long = "vm", value_name = "NAME|PID", help_heading = TARGET)]
    pub(crate) vms: Vec<String>,

    /// What to compare besides exits by reason [default: all that was captured]
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = choice::<Event>(), help_heading = TARGET)]
    pub(crate) events: Vec<Event>,

    /// At most so many rows of each table
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) top: Option<u32>,

    /// How to write it
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,

    /// Write it to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  vmexit diff before.vmexit after.vmexit                 all VMs that are in both
  vmexit diff before.vmexit after.vmexit --vm win10      one VM
  vmexit diff before.vmexit after.vmexit --event ioport  exits by reason and ports
  vmexit diff before.vmexit after.vmexit --format json   for a program to read: docs/json.md

A VM is the same in both if its name is, else its UUID, else its process id. Rates are compared, so the
two may be of different lengths. What differs by less than three standard errors, or by less than a
tenth, is noise.";

pub(super) async fn run(args: DiffArgs) -> Result<(), Error> {
    let before = recorded::read(&args.before, args.before_period.unwrap_or_default());
    let after = args.after.as_ref().unwrap_or(&args.before);
    let after = recorded::read(after, args.after_period.unwrap_or_default());
    let (mut before, mut after) = (before?, after?);
    if !args.vms.is_empty() {
        // A VM may be in one of them only, or have another process id.
        let all: Vec<_> = [before.guests(), after.guests()].concat();
        guests::choose(&all, &args.vms)?;
        for recording in [&mut before, &mut after] {
            recording.keep_vms(&guests::meant(recording, &args.vms));
        }
    }
    for recording in [&mut before, &mut after] {
        recorded::keep(recording, &[], &args.events)?;
    }
    let diff = Diff::between(&before, &after, args.top.map(|top| top as usize));
    let output = Output::open(args.output.as_deref()).await?;
    output.write(vmexit_view::diff(&diff, args.format)?).await
}
