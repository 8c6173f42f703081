//! `vmexit diff`: the differences between two recordings. Traces nothing.

use std::path::PathBuf;

use clap::Args;
use vmexit_core::{diff::Diff, event::Event, store::archive::Period};
use vmexit_view::Format;

use crate::{
    args::{
        choice,
        heading::{OUTPUT, TARGET},
        parse_period,
    },
    error::Error,
    output::Output,
    session::{guests, recorded},
};

/// Arguments of `vmexit diff`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// Earlier recording, or directory of vmexit record
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,

    /// Later recording, or directory of vmexit record [default: BEFORE, in another period]
    #[arg(value_name = "AFTER", required_unless_present_any = ["before_period", "after_period"])]
    pub(crate) after: Option<PathBuf>,

    /// Period of BEFORE, such as 02:00..03:00; times as in vmexit report --since
    #[arg(long, alias = "before", value_name = "SINCE..UNTIL", value_parser = parse_period, help_heading = TARGET)]
    pub(crate) before_period: Option<Period>,

    /// Period of AFTER
    #[arg(long, alias = "after", value_name = "SINCE..UNTIL", value_parser = parse_period, help_heading = TARGET)]
    pub(crate) after_period: Option<Period>,

    /// VM to compare, by name or by its process ID in either recording; can be repeated [default: all]
    #[arg(long = "vm", value_name = "NAME|PID", help_heading = TARGET)]
    pub(crate) vms: Vec<String>,

    /// Events to compare besides exits by reason [default: all that were captured]
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = choice::<Event>(),
        help_heading = TARGET)]
    pub(crate) events: Vec<Event>,

    /// Maximum rows per table [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), alias = "top",
        help_heading = OUTPUT)]
    pub(crate) rows: Option<u32>,

    /// Format
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,

    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  vmexit diff before.vmexit after.vmexit                 all VMs in both
  vmexit diff before.vmexit after.vmexit --vm win10      one VM
  vmexit diff before.vmexit after.vmexit --event ioport  reasons and ports
  vmexit diff /var/lib/vmexit \\
      --before-period 02:00..03:00 --after-period 03:00..04:00

VMs are matched by name, else by UUID, else by process ID. Rates are compared, so the lengths may differ. A difference below three standard errors or below 10% is noise.";

pub(super) async fn run(args: DiffArgs) -> Result<(), Error> {
    let before = recorded::read(&args.before, args.before_period.unwrap_or_default());
    let after = args.after.as_ref().unwrap_or(&args.before);
    let after = recorded::read(after, args.after_period.unwrap_or_default());
    let (mut before, mut after) = (before?, after?);
    if !args.vms.is_empty() {
        // A VM may be in only one of them, or have another process ID.
        let all: Vec<_> = [before.all_vms(), after.all_vms()].concat();
        guests::resolve(&all, &args.vms)?;
        for recording in [&mut before, &mut after] {
            recording.retain_vms(&guests::matching_pids(recording, &args.vms));
        }
    }
    for recording in [&mut before, &mut after] {
        recorded::filter(recording, &[], &args.events)?;
    }
    let diff = Diff::between(&before, &after, args.rows.map(|rows| rows as usize));
    let output = Output::open(args.output.as_deref()).await?;
    output.write(vmexit_view::diff(&diff, args.format)?).await
}
