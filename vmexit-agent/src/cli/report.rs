//! `vmexit report`: what a recording has, as the capture would have shown it. Nothing is traced.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    args::{self, ReportArgs, Written},
    error::Error,
    guests,
    output::Output,
};
use crate::{
    model::Layout,
    probe::Event,
    recording::{
        Recording, Sum,
        archive::{self, Period},
        file::{self, FileError},
    },
    view,
};

pub(super) async fn run(args: ReportArgs) -> Result<(), Error> {
    let mut recording = read(&args.file, args.period.period())?;
    keep(&mut recording, &args.vms, &args.events)?;
    let output = Output::open(args.output.as_deref()).await?;
    output.write(written(&recording, args.format, args.tables.layout())?).await
}

/// Reads a recording: what there is of a period in a file, or in a directory of them.
pub(super) fn read(path: &Path, period: Period) -> Result<Recording, Error> {
    let mut sum = Sum::default();
    for recording in recordings(path, period)? {
        sum.add(recording?).map_err(Error::Long)?;
    }
    sum.finish().ok_or_else(|| Error::NothingThen(path.into()))
}

/// The same one by one. A file of a directory that can't be read costs a warning.
pub(super) fn recordings(
    path: &Path,
    period: Period,
) -> Result<impl Iterator<Item = Result<Recording, Error>> + use<>, Error> {
    args::check(period).map_err(Error::Period)?;
    let failed = |path: PathBuf, source| Error::File { path, source };
    let asked_for = path.to_owned();
    let found = archive::recordings(path, period)
        .map_err(|error| failed(path.into(), FileError::Io(error)))?;
    Ok(found.filter_map(move |recording| match recording {
        Ok(recording) => Some(Ok(recording)),
        Err((file, error)) if file == asked_for => Some(Err(failed(file, error))),
        Err((file, error)) => {
            log::warn!("{}: {error}; left out", view::path(&file));
            None
        }
    }))
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
