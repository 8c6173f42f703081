//! What runs all day: reads the counters every so often, and hands each interval on to whoever is there for
//! it. The loop waits for none of them.

mod manager;
mod privileges;
mod recorder;

use std::{
    future::pending,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

use self::recorder::Recording;
pub(super) use self::recorder::open as open_recorder;
use super::{
    args::CountArgs,
    error::Error,
    guests::Guests,
    live::{Live, Moment},
    stop::Stop,
};
use crate::{
    model::{Layout, Report, Span},
    probe::Probe,
    recording::{self, archive::Recorder},
    snapshot::{Interval, Snapshot},
};

/// Somebody who is told each interval.
pub(super) trait Publish {
    /// Takes it, at once.
    fn publish(&mut self, report: Report, live: &Live) -> Result<(), Error>;
}

/// A probe that is read all day.
pub(super) struct Service {
    probe: Probe,
    live: Live,
    stop: Stop,
    reload: Signal,
}

struct Reading {
    snapshot: Snapshot,
    time: SystemTime,
}

impl Service {
    /// Attaches, and gives up what that took.
    pub(super) async fn start(count: &CountArgs, every: Duration) -> Result<Self, Error> {
        let stop = Stop::new()?;
        let reload = signal(SignalKind::hangup()).map_err(Error::Signal)?;
        let (probe, live) = Live::start(count, every, Guests::find_or_wait).await?;
        let asks = count.watch.devices.options().is_some();
        privileges::give_up(asks, count.limit().is_some()).map_err(Error::Privileges)?;
        Ok(Self { probe, live, stop, reload })
    }

    /// Counts until somebody asks it to stop; what came last is handed on too.
    pub(super) async fn run(
        mut self,
        every: Duration,
        mut publish: Option<&mut dyn Publish>,
        recorder: Option<Recorder>,
    ) -> Result<(), Error> {
        let recording = recorder.map(Recording::start).transpose()?;
        manager::ready();
        let mut before = Reading::now(&mut self.probe)?;
        if let Some(publish) = &mut publish {
            let nothing = Interval::default();
            self.publish(*publish, &before, &nothing)?;
        }
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut watchdog = manager::watchdog().map(interval);
        let mut goes_on = true;
        while goes_on {
            tokio::select! {
                biased;
                () = self.stop.asked() => goes_on = false,
                _ = self.reload.recv() => {
                    manager::reloading();
                    self.live.ask_again();
                    if let Some(recording) = &recording {
                        recording.begin_anew();
                    }
                    manager::ready();
                    continue;
                }
                _ = tick.tick() => {}
                () = self.live.due() => {
                    self.live.turn(&mut self.probe)?;
                    continue;
                }
                () = due(&mut watchdog) => {
                    manager::alive();
                    continue;
                }
            }
            let now = Reading::now(&mut self.probe)?;
            let seen = now.snapshot.pids();
            self.live.note(&seen);
            self.live.maps.collect().await;
            let interval = Interval::between(&before.snapshot, &now.snapshot);
            self.live.adjust(&mut self.probe, &interval)?;
            if let Some(publish) = &mut publish {
                self.publish(*publish, &before, &interval)?;
            }
            if let Some(recording) = &recording {
                recording.add(self.recorded(&before, interval));
            }
            for pid in self.live.guests.ended(&seen) {
                self.live.forget(pid);
            }
            before = now;
        }
        manager::stopping();
        match recording {
            Some(recording) => recording.finish().await,
            None => Ok(()),
        }
    }

    fn publish(
        &mut self,
        publish: &mut dyn Publish,
        before: &Reading,
        interval: &Interval,
    ) -> Result<(), Error> {
        let span = Span::new(before.time, interval, false);
        let report = self.live.report(interval, span, Layout::default());
        self.live.renew(&report);
        publish.publish(report, &self.live)
    }

    fn recorded(&self, before: &Reading, interval: Interval) -> recording::Recording {
        let start = Moment { time: before.time, at_ns: before.snapshot.at_ns };
        let mut recording = self.live.recording(interval, start, false);
        recording.learn(self.live.maps.known());
        recording
    }
}

impl Reading {
    fn now(probe: &mut Probe) -> Result<Self, Error> {
        Ok(Self { snapshot: probe.snapshot(|_| true)?, time: SystemTime::now() })
    }
}

/// When the watchdog is to be told again: never, if there is none.
async fn due(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => drop(watchdog.tick().await),
        None => pending().await,
    }
}
