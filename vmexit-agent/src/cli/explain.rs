//! `vmexit explain`: what of the exits is worth a change, of running VMs or from a recording.

use super::{
    args::{ExplainArgs, MeasureArgs},
    capture,
    error::Error,
    output::Output,
    report,
};
use crate::{model::Layout, probe::Event, recording::Recording, view};

pub(super) async fn run(args: ExplainArgs) -> Result<(), Error> {
    let ExplainArgs { file, period, measure, format, output } = args;
    let output = Output::open(output.as_deref()).await?;
    let recording = match file {
        Some(file) => kept(report::read(&file, period.period())?, &measure)?,
        None => capture::measure(&measure).await?,
    };
    output.write(view::explained(&recording.report(Layout::default()), format)?).await
}

/// The VMs and events of a recording that were asked for, if any were.
fn kept(mut recording: Recording, asked: &MeasureArgs) -> Result<Recording, Error> {
    let events = &asked.count.events;
    let all = events.len() == Event::ALL.len();
    report::keep(&mut recording, &asked.count.watch.vms, if all { &[] } else { events })?;
    Ok(recording)
}
