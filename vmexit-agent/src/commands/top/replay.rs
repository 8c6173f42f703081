//! Recorded intervals as the source of a live view.

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

/// Intervals kept for going back.
const KEPT: usize = 100;

/// A recording, and the interval on the screen.
pub(super) struct ReplaySource {
    session: ReplaySession,
    /// Last intervals, oldest first.
    kept: VecDeque<Measurement>,
    /// Index of the interval on the screen.
    shown: usize,
    /// Sum of the intervals since the baseline, up to the last one kept.
    sum: MeasurementSum,
}

impl ReplaySource {
    /// Shows the first interval, and another one every `pace`.
    ///
    /// # Errors
    /// The recording can't be read or has no interval.
    pub(super) fn start(
        mut session: ReplaySession,
        path: &Path,
        pace: Duration,
    ) -> Result<Self, Error> {
        let first = session.read()?.ok_or_else(|| Error::EmptyPeriod(path.into()))?;
        session.set_pace(pace);
        let mut sum = MeasurementSum::default();
        sum.add(first.clone()).map_err(Error::PeriodTooLong)?;
        Ok(Self { session, kept: [first].into(), shown: 0, sum })
    }

    /// Sets the time between intervals.
    pub(super) fn set_period(&mut self, pace: Duration) {
        self.session.set_pace(pace);
    }

    /// Waits until the next interval is due and shows it, unless the view is paused.
    ///
    /// # Errors
    /// The recording can't be read.
    pub(super) async fn next(&mut self, state: &mut State) -> Result<(), Error> {
        if state.is_paused() || self.shown + 1 < self.kept.len() {
            self.session.pace().await;
            return if state.is_paused() { Ok(()) } else { self.step(true, state) };
        }
        let next = self.session.next().await?;
        self.show_next(next, state)
    }

    /// Shows the next interval, or the previous one, at once.
    ///
    /// # Errors
    /// The recording can't be read.
    pub(super) fn step(&mut self, on: bool, state: &mut State) -> Result<(), Error> {
        if on && self.shown + 1 == self.kept.len() {
            let next = self.session.read()?;
            return self.show_next(next, state);
        }
        match (on, self.shown.checked_sub(1)) {
            (true, _) => self.shown += 1,
            (false, Some(before)) => self.shown = before,
            (false, None) => {
                state.say("this is the first interval kept".into());
                return Ok(());
            }
        }
        state.update(self.frame(state.scope(), state.is_cumulative()));
        Ok(())
    }

    fn show_next(&mut self, next: Option<Measurement>, state: &mut State) -> Result<(), Error> {
        let Some(next) = next else {
            state.say("this is the last interval".into());
            return Ok(());
        };
        self.sum.add(next.clone()).map_err(Error::PeriodTooLong)?;
        self.kept.push_back(next);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
        self.shown = self.kept.len() - 1;
        state.update(self.frame(state.scope(), state.is_cumulative()));
        Ok(())
    }

    /// Begins a new baseline with the next interval.
    pub(super) fn reset(&mut self) {
        self.sum = MeasurementSum::default();
    }

    /// Data of the interval on the screen.
    pub(super) fn frame(&self, scope: Scope, cumulative: bool) -> FrameData {
        let interval = self.measurement(false);
        FrameData {
            time: end(interval),
            interval: finding::report(interval, scope),
            cumulative: cumulative.then(|| finding::report(self.measurement(true), scope)),
            ended: BTreeSet::new(),
        }
    }

    /// The interval on the screen, or the sum since the baseline.
    pub(super) fn measurement(&self, cumulative: bool) -> &Measurement {
        let interval = &self.kept[self.shown];
        if cumulative { self.sum.get().unwrap_or(interval) } else { interval }
    }
}

fn end(measurement: &Measurement) -> SystemTime {
    let length = Duration::from_nanos(measurement.interval.length_ns());
    measurement.start.and_then(|start| start.checked_add(length)).unwrap_or(SystemTime::UNIX_EPOCH)
}
