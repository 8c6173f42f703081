//! `vmexit diff`: two recordings beside each other. Nothing is traced.

use super::{args::DiffArgs, error::Error, guests, output::Output, report};
use crate::{diff::Diff, view};

pub(super) async fn run(args: DiffArgs) -> Result<(), Error> {
    let before = report::read(&args.before, args.before_period.unwrap_or_default());
    let after = args.after.as_ref().unwrap_or(&args.before);
    let after = report::read(after, args.after_period.unwrap_or_default());
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
        report::keep(recording, &[], &args.events)?;
    }
    let diff = Diff::between(&before, &after, args.top.map(|top| top as usize));
    let output = Output::open(args.output.as_deref()).await?;
    output.write(view::diff(&diff, args.format)?).await
}
