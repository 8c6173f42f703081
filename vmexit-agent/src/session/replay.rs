//! What was recorded, interval by interval.

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
    /// When the next interval is due, while somebody waits for it.
    due: Option<Instant>,
}

impl ReplaySession {
    /// The intervals of a period; of these VMs and events only, where some are given.
    ///
    /// # Errors
    /// There is no such file or directory, or the period is none.
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

    /// Waits that long before each interval from now on.
    pub(crate) fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
        self.due = None;
    }

    /// Waits until the next interval is due.
    pub(crate) async fn pace(&mut self) {
        // Kept over a dropped future: a key that is pressed does not put the interval off.
        let pace = self.pace;
        sleep_until(*self.due.get_or_insert_with(|| Instant::now() + pace)).await;
        self.due = None;
    }

    /// The next interval at once.
    ///
    /// # Errors
    /// The recording can't be read.
    pub(crate) fn read(&mut self) -> Result<Option<Measurement>, Error> {
        let Some(next) = self.found.next() else { return Ok(None) };
        let mut measurement = next?;
        if !self.vms.is_empty() {
            // In some intervals there may be none of them.
            measurement.retain_vms(&guests::meant(&measurement, &self.vms));
        }
        if self.events.len() < Event::ALL.len() {
            recorded::keep(&mut measurement, &[], &self.events)?;
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
