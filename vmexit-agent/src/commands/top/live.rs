//! A live view's source of running VMs: a session, the baseline, and the frame on the screen.

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

/// Intervals for which a VM stays on the screen when it has ended.
const LINGER: u32 = 10;

/// A session and what a live view shows of it.
pub(super) struct LiveSource {
    session: LiveSession,
    baseline: Reading,
    /// The last readings of threads that have ended since the baseline: no later reading has them.
    gone: Rc<Vec<VcpuReading>>,
    /// The last interval, or the one at which the view was paused.
    shown: Shown,
    paused: bool,
}

/// An interval on the screen, by its readings.
struct Shown {
    start: Reading,
    end: Reading,
    /// Threads gone between the baseline and the end.
    gone: Rc<Vec<VcpuReading>>,
    measurement: Measurement,
}

impl Shown {
    fn between(
        start: Reading,
        end: Reading,
        gone: &Rc<Vec<VcpuReading>>,
        session: &LiveSession,
    ) -> Self {
        let interval = Interval::between(&start.snapshot, &end.snapshot);
        let measurement = session.measurement(interval, &start);
        Self { start, end, gone: gone.clone(), measurement }
    }
}

impl LiveSource {
    pub(super) async fn start(args: &CountArgs, period: Duration) -> Result<Self, Error> {
        // What was counted before the programs were attached: nothing.
        let baseline = Reading::zero();
        let mut session = LiveSession::start(args, period, period, Guests::find_or_wait).await?;
        session.set_linger(LINGER);
        let gone = Rc::default();
        let shown = Shown::between(baseline.clone(), session.last().clone(), &gone, &session);
        Ok(Self { session, baseline, gone, shown, paused: false })
    }

    /// The VM to open at once, by process id: the only one that was asked for.
    pub(super) fn only(&self) -> Option<u32> {
        let asked_for = self.session.guests.filter.as_ref()?;
        asked_for.first().copied().filter(|_| asked_for.len() == 1)
    }

    /// Waits for the end of the interval, and shows it, unless the view is paused.
    pub(super) async fn next(&mut self, state: &mut State) -> Result<(), Error> {
        self.watch(state);
        let start = self.session.last().clone();
        let Some(measurement) = self.session.next().await? else { return Ok(()) };
        let end = self.session.last().clone();
        let gone = missing_in(&start.snapshot, &end.snapshot);
        if !gone.is_empty() {
            Rc::make_mut(&mut self.gone).extend(gone);
        }
        let forgotten = self.session.forgotten();
        if !forgotten.is_empty() {
            let is_known = |reading: &VcpuReading| !forgotten.contains(&reading.thread.pid);
            Rc::make_mut(&mut self.gone).retain(is_known);
        }
        // Between windows nothing is counted: the last interval with something in it stays on the screen.
        if !self.paused && measurement.interval.span_ns > 0 {
            self.shown = Shown { start, end, gone: self.gone.clone(), measurement };
            state.update(self.frame(state.scope(), state.is_cumulative()));
        }
        if let Some(warning) = warnings::latest() {
            state.say(safe(&warning));
        }
        Ok(())
    }

    /// Reads again, with histograms of the VM that was just opened: the last interval is longer now.
    pub(super) fn refresh_with_histograms(&mut self, state: &State) -> Result<(), Error> {
        self.watch(state);
        let before = self.session.last().clone();
        let mut snapshot = Snapshot::clone(&self.session.restart()?.snapshot);
        // The last readings of threads that have ended are in the reading that this one replaces.
        snapshot.vcpus.extend(missing_in(&before.snapshot, &snapshot));
        let end = Reading::now(snapshot);
        self.session.set_last(end.clone());
        let start = self.shown.start.clone();
        self.shown = Shown::between(start, end, &self.gone, &self.session);
        Ok(())
    }

    /// Begins a new baseline.
    pub(super) fn reset(&mut self) -> Result<(), Error> {
        self.paused = false;
        self.session.watch(Selection::All, None);
        self.baseline = self.session.restart()?.clone();
        self.gone = Rc::default();
        let (start, end) = (self.baseline.clone(), self.baseline.clone());
        self.shown = Shown::between(start, end, &self.gone, &self.session);
        Ok(())
    }

    /// Keeps what is on the screen, or goes on.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn set_period(&mut self, period: Duration) {
        self.session.set_period(period);
    }

    /// What is on the screen: the last interval, and all since the baseline if that is wanted.
    pub(super) fn frame(&self, scope: Scope, cumulative: bool) -> FrameData {
        FrameData {
            time: self.shown.end.time,
            interval: finding::report(&self.shown.measurement, scope),
            cumulative: cumulative.then(|| finding::report(&self.since_baseline(), scope)),
            ended: self.session.ended(),
        }
    }

    /// The last interval, or all since the baseline.
    pub(super) fn measurement(&self, cumulative: bool) -> Measurement {
        if cumulative { self.since_baseline() } else { self.shown.measurement.clone() }
    }

    fn since_baseline(&self) -> Measurement {
        let (baseline, shown) = (&self.baseline.snapshot, &self.shown);
        let gone = Snapshot { vcpus: shown.gone.to_vec(), ..Snapshot::default() };
        let mut interval = Interval::between(baseline, &shown.end.snapshot);
        interval.vcpus.extend(Interval::between(baseline, &gone).vcpus);
        self.session.measurement(interval, &self.baseline)
    }

    /// Reads histograms of the VM that is open, and keeps the one that is selected when it ends.
    fn watch(&mut self, state: &State) {
        let histograms = state.open().map_or(Selection::None, Selection::Vm);
        self.session.watch(histograms, state.selected());
    }
}
