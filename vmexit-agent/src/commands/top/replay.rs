//! A live view's source of recorded intervals.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    time::{Duration, SystemTime},
};

use vmexit_core::{finding, measurement::Measurement, report::Scope, store::MeasurementSum};
use vmexit_view::top::{FrameData, State};

use crate::{
    error::Error,
    session::{Session as _, replay::ReplaySession},
};

/// Intervals that one can go back.
const KEPT: usize = 100;

/// A recording that is gone through.
pub(super) struct ReplaySource {
    session: ReplaySession,
    /// The last intervals, oldest first, and which of them is shown.
    kept: VecDeque<Measurement>,
    shown: usize,
    /// All since the baseline, until the last of these.
    sum: MeasurementSum,
}

impl ReplaySource {
    /// Shows the first interval, and the next one every `pace`.
    pub(super) fn start(
        mut session: ReplaySession,
        path: &Path,
        pace: Duration,
    ) -> Result<Self, Error> {
        let first = session.read()?.ok_or_else(|| Error::NothingThen(path.into()))?;
        session.set_pace(pace);
        let mut sum = MeasurementSum::default();
        sum.add(first.clone()).map_err(Error::Long)?;
        Ok(Self { session, kept: [first].into(), shown: 0, sum })
    }

    pub(super) fn set_period(&mut self, pace: Duration) {
        self.session.set_pace(pace);
    }

    /// Waits until the next interval is due, and shows it, unless the view is paused.
    pub(super) async fn next(&mut self, state: &mut State) -> Result<(), Error> {
        if state.is_paused() || self.shown + 1 < self.kept.len() {
            self.session.pace().await;
            return if state.is_paused() { Ok(()) } else { self.step(true, state) };
        }
        let next = self.session.next().await?;
        self.show_next(next, state)
    }

    /// Shows the next interval at once, or the one before.
    pub(super) fn step(&mut self, on: bool, state: &mut State) -> Result<(), Error> {
        if on && self.shown + 1 == self.kept.len() {
            let next = self.session.read()?;
            return self.show_next(next, state);
        }
        match (on, self.shown.checked_sub(1)) {
            (true, _) => self.shown += 1,
            (false, Some(before)) => self.shown = before,
            (false, None) => {
                state.say("no interval before this one is kept".into());
                return Ok(());
            }
        }
        state.update(self.frame(state.scope(), state.is_cumulative()));
        Ok(())
    }

    fn show_next(&mut self, next: Option<Measurement>, state: &mut State) -> Result<(), Error> {
        let Some(next) = next else {
            state.say("that was the last interval".into());
            return Ok(());
        };
        self.sum.add(next.clone()).map_err(Error::Long)?;
        self.kept.push_back(next);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
        self.shown = self.kept.len() - 1;
        state.update(self.frame(state.scope(), state.is_cumulative()));
        Ok(())
    }

    /// Sums up from the next interval on.
    pub(super) fn reset(&mut self) {
        self.sum = MeasurementSum::default();
    }

    pub(super) fn frame(&self, scope: Scope, cumulative: bool) -> FrameData {
        let interval = self.measurement(false);
        FrameData {
            time: end(interval),
            interval: finding::report(interval, scope),
            cumulative: cumulative.then(|| finding::report(self.measurement(true), scope)),
            ended: BTreeSet::new(),
        }
    }

    pub(super) fn measurement(&self, cumulative: bool) -> &Measurement {
        let interval = &self.kept[self.shown];
        if cumulative { self.sum.get().unwrap_or(interval) } else { interval }
    }
}

fn end(measurement: &Measurement) -> SystemTime {
    let length = Duration::from_nanos(measurement.interval.length_ns());
    measurement.start.and_then(|start| start.checked_add(length)).unwrap_or(SystemTime::UNIX_EPOCH)
}
