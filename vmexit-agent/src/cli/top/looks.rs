//! The readings that a live view shows the differences of, and which VMs it still knows.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    rc::Rc,
    time::SystemTime,
};

use crate::{
    cli::{
        error::Error,
        live::{Live, Moment},
    },
    guest,
    model::{Layout, Span},
    probe::{Probe, now_ns},
    recording::Recording,
    snapshot::{Interval, Snapshot, Thread, VcpuReading},
    view::top::{Look, State},
};

/// Looks for which a VM stays on the screen when it has ended.
const STAYS: u32 = 10;

/// Three readings: the baseline, and the two that the last interval lies between. A copy costs nothing.
#[derive(Clone)]
pub(super) struct Looks {
    baseline: Reading,
    previous: Reading,
    current: Reading,
    /// The last readings of threads that have ended since the baseline: no later one has them.
    gone: Rc<Vec<VcpuReading>>,
    /// VMs that have ended, and for how many looks.
    ended: BTreeMap<u32, u32>,
}

#[derive(Clone)]
struct Reading {
    snapshot: Rc<Snapshot>,
    time: SystemTime,
}

impl Looks {
    /// The baseline is what was counted before the probe was attached: nothing.
    pub(super) fn start(probe: &mut Probe) -> Result<Self, Error> {
        let nothing = Snapshot { at_ns: now_ns(), ..Snapshot::default() };
        let baseline = Reading::now(nothing);
        // With all durations, of which there are none yet: the first interval is to have them.
        let current = Reading::now(probe.snapshot(|_| true)?);
        Ok(Self {
            previous: baseline.clone(),
            baseline,
            current,
            gone: Rc::default(),
            ended: BTreeMap::new(),
        })
    }

    /// Reads what has come since the last look: the next interval.
    pub(super) fn look(
        &mut self,
        probe: &mut Probe,
        live: &mut Live,
        state: &State,
    ) -> Result<(), Error> {
        let open = state.open();
        let now = Reading::now(probe.snapshot(|pid| Some(pid) == open)?);
        let interval = Interval::between(&self.current.snapshot, &now.snapshot);
        if interval.span_ns == 0 {
            // Nothing was counted, so the last interval that has something is shown on.
            return Ok(());
        }
        live.adjust(probe, &interval)?;
        let gone: Vec<VcpuReading> = self.current.missing_in(&now.snapshot).cloned().collect();
        if !gone.is_empty() {
            Rc::make_mut(&mut self.gone).extend(gone);
        }
        self.previous = mem::replace(&mut self.current, now);
        self.meet(live, state);
        Ok(())
    }

    /// Reads again, with the durations of the VM that was just opened: the last interval is longer now.
    pub(super) fn look_closer(&mut self, probe: &mut Probe, state: &State) -> Result<(), Error> {
        let open = state.open();
        let mut now = probe.snapshot(|pid| Some(pid) == open)?;
        // Their last reading was the one that is given up here.
        let gone: Vec<VcpuReading> = self.current.missing_in(&now).cloned().collect();
        now.vcpus.extend(gone);
        self.current = Reading::now(now);
        Ok(())
    }

    /// Counts from now on, everything.
    pub(super) fn reset(&mut self, probe: &mut Probe) -> Result<(), Error> {
        self.current = Reading::now(probe.snapshot(|_| true)?);
        self.previous = self.current.clone();
        self.baseline = self.current.clone();
        self.gone = Rc::default();
        Ok(())
    }

    /// Notes VMs that have come or ended; those that ended some time ago are forgotten, unless somebody
    /// looks at them.
    fn meet(&mut self, live: &mut Live, state: &State) {
        let running = self.current.snapshot.pids();
        live.note(&running);
        let ended: Vec<u32> = live
            .guests
            .known
            .keys()
            .copied()
            .filter(|pid| !running.contains(pid) && !guest::is_running(*pid))
            .collect();
        self.ended.retain(|pid, _| ended.contains(pid));
        for pid in ended {
            let looks = self.ended.entry(pid).or_default();
            *looks += 1;
            if *looks > STAYS && state.selected() != Some(pid) {
                self.ended.remove(&pid);
                live.forget(pid);
                Rc::make_mut(&mut self.gone).retain(|reading| reading.thread.pid != pid);
            }
        }
    }

    /// The last interval in words; that since the baseline too, if it is wanted.
    pub(super) fn words(&self, live: &Live, layout: Layout, cumulative: bool) -> Look {
        let words = |interval: &Interval, since: &Reading| {
            let span = Span::new(since.time, interval, false);
            live.report(interval, span, layout)
        };
        let interval = Interval::between(&self.previous.snapshot, &self.current.snapshot);
        Look {
            time: self.current.time,
            interval: words(&interval, &self.previous),
            cumulative: cumulative.then(|| words(&self.since_baseline(), &self.baseline)),
            ended: self.ended.keys().copied().collect(),
        }
    }

    /// What is shown, to be kept: the last interval, or that since the baseline.
    pub(super) fn recording(&self, live: &Live, cumulative: bool) -> Recording {
        let mut recording = if cumulative {
            live.recording(self.since_baseline(), self.baseline.moment(), false)
        } else {
            let interval = Interval::between(&self.previous.snapshot, &self.current.snapshot);
            live.recording(interval, self.previous.moment(), false)
        };
        recording.learn(live.maps.known());
        recording
    }

    fn since_baseline(&self) -> Interval {
        let baseline = &self.baseline.snapshot;
        let gone = Snapshot { vcpus: self.gone.to_vec(), ..Snapshot::default() };
        let mut interval = Interval::between(baseline, &self.current.snapshot);
        interval.vcpus.extend(Interval::between(baseline, &gone).vcpus);
        interval
    }
}

impl Reading {
    fn now(snapshot: Snapshot) -> Self {
        Self { snapshot: Rc::new(snapshot), time: SystemTime::now() }
    }

    fn moment(&self) -> Moment {
        Moment { time: self.time, at_ns: self.snapshot.at_ns }
    }

    /// The threads that a later reading lacks: they have ended, and this was their last one.
    fn missing_in<'a>(&'a self, later: &Snapshot) -> impl Iterator<Item = &'a VcpuReading> {
        let there: HashSet<Thread> = later.vcpus.iter().map(|reading| reading.thread).collect();
        self.snapshot.vcpus.iter().filter(move |reading| !there.contains(&reading.thread))
    }
}
