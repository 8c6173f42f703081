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

use crate::{args::check_period, error::Error, output, session::guests};

/// Sum of the intervals of a period, in a recording or a directory of recordings.
///
/// # Errors
/// The path can't be read, the period is invalid or has no interval, or the counters overflow.
pub(crate) fn read(path: &Path, period: Period) -> Result<Measurement, Error> {
    let mut sum = MeasurementSum::default();
    for recording in recordings(path, period)? {
        sum.add(recording?).map_err(Error::PeriodTooLong)?;
    }
    let sum = sum.finish().ok_or_else(|| Error::EmptyPeriod(path.into()))?;
    output::say_merged(&sum);
    Ok(sum)
}

/// Intervals of a period, one by one. A file in a directory that can't be read is skipped with a warning.
///
/// # Errors
/// The path can't be read, or the period is invalid.
pub(crate) fn recordings(
    path: &Path,
    period: Period,
) -> Result<impl Iterator<Item = Result<Measurement, Error>> + use<>, Error> {
    check_period(period).map_err(Error::Period)?;
    let failed = |path: PathBuf, source| Error::File { path, source };
    let asked_for = path.to_owned();
    let found = archive::recordings(path, period)
        .map_err(|error| failed(path.into(), FileError::Io(error)))?;
    Ok(found.filter_map(move |recording| match recording {
        Ok(recording) => Some(Ok(recording)),
        Err((file, error)) if file == asked_for => Some(Err(failed(file, error))),
        Err((file, error)) => {
            log::warn!("{} is skipped: {error}", escape::path(&file));
            None
        }
    }))
}

/// Keeps only the given VMs and events of a recording; an empty list keeps all.
///
/// # Errors
/// A name or process ID matches no VM of the recording.
pub(crate) fn filter(
    recording: &mut Measurement,
    vms: &[String],
    events: &[Event],
) -> Result<(), Error> {
    if !vms.is_empty() {
        recording.retain_vms(&guests::resolve(&recording.all_vms(), vms)?);
    }
    if !events.is_empty() {
        let events: BTreeSet<Event> = events.iter().copied().collect();
        for event in events.difference(&recording.events) {
            log::warn!("the recording has no {event} events");
        }
        recording.retain_events(&events);
    }
    Ok(())
}
