//! Recordings and directories of them, opened by path and period.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use vmexit_core::{
    escape,
    event::Event,
    measurement::Measurement,
    store::{
        MeasurementSum,
        archive::{self, Period},
        file::FileError,
    },
};

use crate::{args::check, error::Error, session::guests};

/// Reads a recording: what there is of a period in a file, or in a directory of them.
pub(crate) fn read(path: &Path, period: Period) -> Result<Measurement, Error> {
    let mut sum = MeasurementSum::default();
    for recording in recordings(path, period)? {
        sum.add(recording?).map_err(Error::Long)?;
    }
    sum.finish().ok_or_else(|| Error::NothingThen(path.into()))
}

/// The same one by one. A file of a directory that can't be read costs a warning.
pub(crate) fn recordings(
    path: &Path,
    period: Period,
) -> Result<impl Iterator<Item = Result<Measurement, Error>> + use<>, Error> {
    check(period).map_err(Error::Period)?;
    let failed = |path: PathBuf, source| Error::File { path, source };
    let asked_for = path.to_owned();
    let found = archive::recordings(path, period)
        .map_err(|error| failed(path.into(), FileError::Io(error)))?;
    Ok(found.filter_map(move |recording| match recording {
        Ok(recording) => Some(Ok(recording)),
        Err((file, error)) if file == asked_for => Some(Err(failed(file, error))),
        Err((file, error)) => {
            log::warn!("{}: {error}; left out", escape::path(&file));
            None
        }
    }))
}

/// Leaves only these VMs and events of a recording, if any are said.
pub(crate) fn keep(
    recording: &mut Measurement,
    vms: &[String],
    events: &[Event],
) -> Result<(), Error> {
    if !vms.is_empty() {
        recording.retain_vms(&guests::choose(&recording.all_vms(), vms)?);
    }
    if !events.is_empty() {
        let events: BTreeSet<Event> = events.iter().copied().collect();
        for event in events.difference(&recording.events) {
            log::warn!("not in the recording: {event}");
        }
        recording.retain_events(&events);
    }
    Ok(())
}
