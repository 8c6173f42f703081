//! Replay session: the intervals of a recording, one by one.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep_until};
use vmexit_core::{event::Event, measurement::Measurement, store::archive::Period};

use super::{Session, recorded};
use crate::{error::Error, session::guests};

/// The intervals of a recording, or of a directory of recordings.
pub(crate) struct ReplaySession {
    found: Box<dyn Iterator<Item = Result<Measurement, Error>>>,
    vms: Vec<String>,
    events: Vec<Event>,
    /// Time that [`Session::next`] waits before each interval.
    pace: Duration,
    /// Time at which the next interval is due, once [`Self::pace`] was called.
    due: Option<Instant>,
}

impl ReplaySession {
    /// Opens the intervals of a period, with these VMs (all if empty) and events only.
    ///
    /// # Errors
    /// The path can't be read, or the period is invalid.
    pub(crate) fn open(
        path: &Path,
        period: Period,
        vms: &[String],
        events: &[Event],
    ) -> Result<Self, Error> {
        let found = Box::new(recorded::recordings(path, period)?);
        let (vms, events) = (vms.to_vec(), events.to_vec());
        Ok(Self { found, vms, events, pace: Duration::ZERO, due: None })
    }

    /// Sets the time to wait before each interval.
    pub(crate) fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
        self.due = None;
    }

    /// Waits until the next interval is due.
    pub(crate) async fn pace(&mut self) {
        // Kept when the future is dropped: a key press must not delay the interval.
        let pace = self.pace;
        sleep_until(*self.due.get_or_insert_with(|| Instant::now() + pace)).await;
        self.due = None;
    }

    /// The next interval, without waiting; `None` after the last one.
    ///
    /// # Errors
    /// The recording can't be read.
    pub(crate) fn read(&mut self) -> Result<Option<Measurement>, Error> {
        let Some(next) = self.found.next() else { return Ok(None) };
        let mut measurement = next?;
        if !self.vms.is_empty() {
            // An interval may have none of the VMs.
            measurement.retain_vms(&guests::matching_pids(&measurement, &self.vms));
        }
        if self.events.len() < Event::ALL.len() {
            recorded::filter(&mut measurement, &[], &self.events)?;
        }
        Ok(Some(measurement))
    }
}

impl Session for ReplaySession {
    async fn next(&mut self) -> Result<Option<Measurement>, Error> {
        self.pace().await;
        self.read()
    }
}
