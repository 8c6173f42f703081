//! Running VMs as the source of a live view: session, baseline, and the interval on the screen.

use std::{rc::Rc, time::Duration};

use vmexit_core::{
    counters::{Interval, Snapshot, VcpuReading},
    escape::safe,
    finding,
    measurement::Measurement,
    report::{Scope, Selection},
};
use vmexit_view::top::{FrameData, State};

use crate::{
    args::CountArgs,
    error::Error,
    session::{
        Session as _,
        guests::Guests,
        live::{LiveSession, Reading, missing_in},
    },
    warnings,
};

/// Intervals for which a VM stays on the screen after it has ended.
const LINGER: u32 = 10;

/// A live session, and the interval on the screen.
pub(super) struct LiveSource {
    session: LiveSession,
    baseline: Reading,
    /// Last readings of threads that have ended since the baseline. No later reading has them.
    ended: Rc<Vec<VcpuReading>>,
    /// Last interval, or the one at which the view was paused.
    shown: Shown,
    paused: bool,
}

/// The interval on the screen, with its readings.
struct Shown {
    start: Reading,
    end: Reading,
    /// Last readings of threads that have ended between the baseline and the end.
    ended: Rc<Vec<VcpuReading>>,
    measurement: Measurement,
}

impl Shown {
    fn between(
        start: Reading,
        end: Reading,
        ended: &Rc<Vec<VcpuReading>>,
        session: &LiveSession,
    ) -> Self {
        let interval = Interval::between(&start.snapshot, &end.snapshot);
        let measurement = session.measurement(interval, &start);
        Self { start, end, ended: ended.clone(), measurement }
    }
}

impl LiveSource {
    /// Starts a live session, with or without running VMs.
    ///
    /// # Errors
    /// Those of [`LiveSession::start`].
    pub(super) async fn start(args: &CountArgs, period: Duration) -> Result<Self, Error> {
        // All counters are zero until the programs are attached.
        let baseline = Reading::zero();
        let mut session = LiveSession::start(args, period, period, Guests::find_or_none).await?;
        session.set_linger(LINGER);
        let ended = Rc::default();
        let shown = Shown::between(baseline.clone(), session.last().clone(), &ended, &session);
        Ok(Self { session, baseline, ended, shown, paused: false })
    }

    /// Process ID of the VM selected by `--vm`, if it is a single one: the view opens it at the start.
    pub(super) fn only_vm(&self) -> Option<u32> {
        let asked_for = self.session.guests.filter.as_ref()?;
        asked_for.first().copied().filter(|_| asked_for.len() == 1)
    }

    /// Waits for the end of the interval and shows it, unless the view is paused.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(super) async fn next(&mut self, state: &mut State) -> Result<(), Error> {
        self.update_selection(state);
        let start = self.session.last().clone();
        let Some(measurement) = self.session.next().await? else { return Ok(()) };
        let end = self.session.last().clone();
        let ended = missing_in(&start.snapshot, &end.snapshot);
        if !ended.is_empty() {
            Rc::make_mut(&mut self.ended).extend(ended);
        }
        let forgotten = self.session.forgotten();
        if !forgotten.is_empty() {
            let is_known = |reading: &VcpuReading| !forgotten.contains(&reading.thread.pid);
            Rc::make_mut(&mut self.ended).retain(is_known);
        }
        // An interval between two windows is empty: the previous one stays on the screen.
        if !self.paused && measurement.interval.span_ns > 0 {
            self.shown = Shown { start, end, ended: self.ended.clone(), measurement };
            state.update(self.frame(state.scope(), state.is_cumulative()));
        }
        if let Some(warning) = warnings::latest() {
            state.say(safe(&warning));
        }
        Ok(())
    }

    /// Reads again, with histograms of the VM that was just opened, and extends the interval on the screen to now.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(super) fn refresh_with_histograms(&mut self, state: &State) -> Result<(), Error> {
        self.update_selection(state);
        let before = self.session.last().clone();
        let mut snapshot = Snapshot::clone(&self.session.restart()?.snapshot);
        // Threads that have ended since the start of the interval are only in the replaced reading.
        snapshot.vcpus.extend(missing_in(&before.snapshot, &snapshot));
        let end = Reading::now(snapshot);
        self.session.set_last(end.clone());
        let start = self.shown.start.clone();
        self.shown = Shown::between(start, end, &self.ended, &self.session);
        Ok(())
    }

    /// Begins a new baseline.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(super) fn reset(&mut self) -> Result<(), Error> {
        self.paused = false;
        self.session.set_selection(Selection::All, None);
        self.baseline = self.session.restart()?.clone();
        self.ended = Rc::default();
        let (start, end) = (self.baseline.clone(), self.baseline.clone());
        self.shown = Shown::between(start, end, &self.ended, &self.session);
        Ok(())
    }

    /// Pauses or continues the view; counting goes on.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Sets the time between intervals.
    pub(super) fn set_period(&mut self, period: Duration) {
        self.session.set_period(period);
    }

    /// Data of the interval on the screen; with `cumulative`, also that since the baseline.
    pub(super) fn frame(&self, scope: Scope, cumulative: bool) -> FrameData {
        FrameData {
            time: self.shown.end.time,
            interval: finding::report(&self.shown.measurement, scope),
            cumulative: cumulative.then(|| finding::report(&self.since_baseline(), scope)),
            ended: self.session.ended(),
        }
    }

    /// The interval on the screen, or all since the baseline.
    pub(super) fn measurement(&self, cumulative: bool) -> Measurement {
        if cumulative { self.since_baseline() } else { self.shown.measurement.clone() }
    }

    fn since_baseline(&self) -> Measurement {
        let (baseline, shown) = (&self.baseline.snapshot, &self.shown);
        let ended = Snapshot { vcpus: shown.ended.to_vec(), ..Snapshot::default() };
        let mut interval = Interval::between(baseline, &shown.end.snapshot);
        interval.vcpus.extend(Interval::between(baseline, &ended).vcpus);
        self.session.measurement(interval, &self.baseline)
    }

    /// Passes the view's selection to the session: the open VM has histograms, the selected one is kept when it ends.
    fn update_selection(&mut self, state: &State) {
        let histograms = state.open().map_or(Selection::None, Selection::Vm);
        self.session.set_selection(histograms, state.selected());
    }
}
