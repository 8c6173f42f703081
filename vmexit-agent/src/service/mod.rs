//! What runs all day: reads the counters every interval, and passes each measurement on to a publisher and to a recorder. The
//! loop waits for neither.

mod manager;
mod privileges;
mod recorder;

use std::{future::pending, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::interval,
};
use vmexit_core::{counters::Interval, measurement::Measurement, store::archive::Recorder};

use self::recorder::BackgroundWriter;
pub(crate) use self::recorder::open as open_recorder;
use crate::{
    args::CountArgs,
    error::Error,
    session::{Session as _, guests::Guests, live::LiveSession},
    stop::Stop,
};

/// A receiver of each interval.
pub(crate) trait Publish {
    /// Takes an interval, at once.
    ///
    /// # Errors
    /// The interval can't be published; the service ends.
    fn publish(&mut self, measurement: &Measurement) -> Result<(), Error>;
}

/// A session that goes on all day.
pub(crate) struct Service {
    session: LiveSession,
    stop: Stop,
    reload: Signal,
}

impl Service {
    /// Attaches, then drops the privileges that only attaching takes.
    ///
    /// # Errors
    /// As [`LiveSession::start`], or privileges can't be dropped.
    pub(crate) async fn start(count: &CountArgs, period: Duration) -> Result<Self, Error> {
        let stop = Stop::new()?;
        let reload = signal(SignalKind::hangup()).map_err(Error::Signal)?;
        let session = LiveSession::start(count, period, period, Guests::find_or_wait).await?;
        let asks = count.watch.devices.options().is_some();
        privileges::give_up(asks, count.limit().is_some()).map_err(Error::Privileges)?;
        Ok(Self { session, stop, reload })
    }

    /// Counts until somebody asks it to stop; the last, shorter interval is passed on too.
    ///
    /// # Errors
    /// Counters can't be read, an interval can't be published, or the last one can't be written.
    pub(crate) async fn run(
        mut self,
        mut publish: Option<&mut dyn Publish>,
        recorder: Option<Recorder>,
    ) -> Result<(), Error> {
        let writer = recorder.map(BackgroundWriter::start).transpose()?;
        manager::ready();
        if let Some(publish) = &mut publish {
            // An empty interval: metrics are there from the beginning.
            let start = self.session.last().clone();
            let nothing = self.session.measurement(Interval::default(), &start);
            publish.publish(&nothing)?;
        }
        let mut watchdog = manager::watchdog().map(interval);
        let mut goes_on = true;
        while goes_on {
            let measurement = tokio::select! {
                biased;
                () = self.stop.asked() => {
                    goes_on = false;
                    self.session.read().await?
                }
                _ = self.reload.recv() => {
                    self.reload(writer.as_ref());
                    continue;
                }
                next = self.session.next() => match next? {
                    Some(measurement) => measurement,
                    None => break,
                },
                () = due(&mut watchdog) => {
                    manager::alive();
                    continue;
                }
            };
            if let Some(publish) = &mut publish {
                publish.publish(&measurement)?;
            }
            if let Some(writer) = &writer {
                writer.add(measurement);
            }
        }
        manager::stopping();
        match writer {
            Some(writer) => writer.finish().await,
            None => Ok(()),
        }
    }

    fn reload(&mut self, writer: Option<&BackgroundWriter>) {
        manager::reloading();
        self.session.ask_again();
        if let Some(writer) = writer {
            writer.begin_file();
        }
        manager::ready();
    }
}

/// When the watchdog is to be told again: never, if there is none.
async fn due(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => drop(watchdog.tick().await),
        None => pending().await,
    }
}
