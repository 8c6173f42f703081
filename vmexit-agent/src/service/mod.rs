//! The loop of `vmexit serve` and `vmexit record`: reads the counters every interval and passes each measurement to a
//! publisher and to a background writer. It waits for neither.

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
    /// Publishes an interval, without waiting.
    ///
    /// # Errors
    /// The interval can't be published; the service ends.
    fn publish(&mut self, measurement: &Measurement) -> Result<(), Error>;
}

/// A live session that runs until a signal.
pub(crate) struct Service {
    session: LiveSession,
    stop: Stop,
    reload: Signal,
}

impl Service {
    /// Attaches the programs, then drops the capabilities that are no longer needed.
    ///
    /// # Errors
    /// Those of [`LiveSession::start`], or capabilities can't be dropped.
    pub(crate) async fn start(count: &CountArgs, period: Duration) -> Result<Self, Error> {
        let stop = Stop::new()?;
        let reload = signal(SignalKind::hangup()).map_err(Error::Signal)?;
        let session = LiveSession::start(count, period, period, Guests::find_or_none).await?;
        let asks_vms = count.watch.devices.options().is_some();
        privileges::drop_unneeded(asks_vms, count.limit().is_some()).map_err(Error::Privileges)?;
        Ok(Self { session, stop, reload })
    }

    /// Counts until SIGINT or SIGTERM. The last, shorter interval is passed on too.
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
            // An empty interval, so that metrics are available from the start.
            let start = self.session.last().clone();
            let empty = self.session.measurement(Interval::default(), &start);
            publish.publish(&empty)?;
        }
        let mut watchdog = manager::watchdog_period().map(interval);
        let mut running = true;
        while running {
            let measurement = tokio::select! {
                biased;
                () = self.stop.requested() => {
                    running = false;
                    self.session.end_interval().await?
                }
                _ = self.reload.recv() => {
                    self.reload(writer.as_ref());
                    continue;
                }
                next = self.session.next() => match next? {
                    Some(measurement) => measurement,
                    None => break,
                },
                () = watchdog_tick(&mut watchdog) => {
                    manager::watchdog_alive();
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

    /// Handles SIGHUP: asks the VMs about their devices again and begins a new file.
    fn reload(&mut self, writer: Option<&BackgroundWriter>) {
        manager::reloading();
        self.session.query_devices_again();
        if let Some(writer) = writer {
            writer.begin_file();
        }
        manager::ready();
    }
}

/// Waits for the next notification of the watchdog; forever without one.
async fn watchdog_tick(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => drop(watchdog.tick().await),
        None => pending().await,
    }
}
