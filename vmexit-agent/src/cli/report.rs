//! `vmexit report`: what a recording has, as the capture would have shown it. Nothing is traced.

use std::{collections::BTreeSet, fs::File, path::Path};

use bytes::Bytes;

use super::{
    args::{ReportArgs, Written},
    error::Error,
    guests,
    output::Output,
};
use crate::{
    model::Layout,
    probe::Event,
    recording::{
        Recording,
        file::{self, FileError},
    },
    view,
};

pub(super) async fn run(args: ReportArgs) -> Result<(), Error> {
    let mut recording = read(&args.file)?;
    keep(&mut recording, &args.vms, &args.events)?;
    let output = Output::open(args.output.as_deref()).await?;
    output.write(written(&recording, Written::Report(args.format), args.tables.layout())?).await
}

/// Reads a recording.
pub(super) fn read(path: &Path) -> Result<Recording, Error> {
    let recording = File::open(path).map_err(FileError::Io).and_then(file::read);
    recording.map_err(|source| Error::File { path: path.into(), source })
}

/// Leaves only these VMs and events of a recording, if any are said.
pub(super) fn keep(
    recording: &mut Recording,
    vms: &[String],
    events: &[Event],
) -> Result<(), Error> {
    if !vms.is_empty() {
        recording.keep_vms(&guests::choose(&recording.guests(), vms)?);
    }
    if !events.is_empty() {
        let events: BTreeSet<Event> = events.iter().copied().collect();
        for event in events.difference(&recording.events) {
            log::warn!("not in the recording: {event}");
        }
        recording.keep_events(&events);
    }
    Ok(())
}

/// What is to be written of a recording.
pub(super) fn written(
    recording: &Recording,
    format: Written,
    layout: Layout,
) -> Result<Bytes, Error> {
    match format {
        Written::Report(format) => Ok(view::render(&recording.report(layout), format)?),
        Written::Recording => Ok(file::write(recording).map_err(Error::Recording)?.into()),
    }
}
