//! VMs that run: attached programs, what is known of the VMs, and the reading that the next interval begins with.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    rc::Rc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, Interval as Ticks, MissedTickBehavior, interval_at};
use vmexit_core::{
    counters::{Interval, Snapshot, VcpuReading},
    event::Event,
    host::Host,
    measurement::{Began, Measurement, VERSION},
    reason::Names,
    report::Selection,
    sampling::SamplingCost,
    timing::Timing,
    vm::Vm,
};

use super::Session;
use crate::{
    args::{CountArgs, WatchArgs},
    discover,
    error::Error,
    host::{self, preflight},
    monitor::Maps,
    probe::{Probe, ProbeOptions, Progress, now_ns, plan::AttachPlan},
    sampler::Sampler,
    session::guests::Guests,
};

/// A snapshot and the wall clock's time of it. A copy costs nothing.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) time: SystemTime,
}

impl Reading {
    /// Of a snapshot that was taken right now.
    pub(crate) fn now(snapshot: Snapshot) -> Self {
        Self { snapshot: Rc::new(snapshot), time: SystemTime::now() }
    }

    /// Of counters that are all zero.
    pub(crate) fn zero() -> Self {
        Self::now(Snapshot { at_ns: now_ns(), ..Snapshot::default() })
    }
}

/// Exits of running VMs, counted as long as this lives.
pub(crate) struct LiveSession {
    probe: Probe,
    sampler: Option<Sampler>,
    pub(crate) guests: Guests,
    devices: Maps,
    host: Host,
    boot: String,
    reasons: Names,
    events: BTreeSet<Event>,
    /// Which exits were timed in the last interval.
    timing: Timing,
    /// What measuring cost in the last interval, with a budget.
    cost: Option<SamplingCost>,
    ticks: Ticks,
    /// The reading that the next interval begins with.
    last: Reading,
    /// VMs whose histograms are read.
    histograms: Selection,
    /// VMs that have ended, by process id, and the intervals since.
    ended: BTreeMap<u32, u32>,
    /// Intervals for which a VM that has ended is kept.
    linger: u32,
    /// The VM that is kept for longer.
    pinned: Option<u32>,
    /// VMs that the last reading dropped, by process id.
    forgotten: Vec<u32>,
}

impl LiveSession {
    /// Finds the VMs, begins to ask them about their devices, attaches the programs and takes the first reading. An
    /// interval ends every `period`; where exits are counted in windows, one begins every `window`.
    ///
    /// # Errors
    /// Permissions, KVM, tracepoints or VMs are missing, or the kernel refuses a program.
    pub(crate) async fn start(
        args: &CountArgs,
        period: Duration,
        window: Duration,
        find: impl FnOnce(&WatchArgs) -> Result<Guests, Error>,
    ) -> Result<Self, Error> {
        preflight::check()?;
        let plan = AttachPlan::make(args.watch.tracepoints)?;
        warn_of_missing(&plan, &args.events);
        let guests = find(&args.watch)?;
        let options = ProbeOptions {
            max_vcpus: args.watch.max_vcpus.unwrap_or_else(|| guests.room()),
            pids: guests.filter.clone(),
            timing: args.timing,
            events: args.events.iter().copied().collect(),
            sampled: args.limit().is_some(),
            slow: None,
        };
        let mut devices = Maps::new(args.watch.devices.options());
        guests.known.values().for_each(|vm| devices.learn(vm));
        let mut probe = Probe::start(&plan, &options)?;
        let sampler = match args.limit() {
            Some(limit) => {
                let pids = guests.known.keys().copied().collect();
                Some(Sampler::start(&mut probe, limit, args.timing, window, &pids).await?)
            }
            None => None,
        };
        let last = Reading::now(probe.snapshot(|_| true)?);
        Ok(Self {
            probe,
            sampler,
            guests,
            devices,
            host: host::current(),
            boot: host::boot_id(),
            reasons: host::reason_names(),
            events: options.events,
            timing: options.timing,
            cost: None,
            ticks: ticks(period),
            last,
            histograms: Selection::All,
            ended: BTreeMap::new(),
            linger: 0,
            pinned: None,
            forgotten: Vec::new(),
        })
    }

    /// Ends intervals every `period` from now on.
    pub(crate) fn set_period(&mut self, period: Duration) {
        self.ticks = ticks(period);
    }

    /// Reads histograms of these VMs only, and keeps the VM of process id `pinned` even if it ends.
    pub(crate) fn watch(&mut self, histograms: Selection, pinned: Option<u32>) {
        self.histograms = histograms;
        self.pinned = pinned;
    }

    /// Keeps VMs that have ended for `intervals`.
    pub(crate) fn set_linger(&mut self, intervals: u32) {
        self.linger = intervals;
    }

    /// Ends the interval now.
    ///
    /// # Errors
    /// Counters can't be read, or the sampler can't attach or detach.
    pub(crate) async fn read(&mut self) -> Result<Measurement, Error> {
        let now = self.snapshot()?;
        let seen = now.snapshot.pids();
        self.guests.note(&seen).iter().for_each(|vm| self.devices.learn(vm));
        self.devices.collect().await;
        let before = std::mem::replace(&mut self.last, now);
        let interval = Interval::between(&before.snapshot, &self.last.snapshot);
        self.adjust(&interval)?;
        let measurement = self.measurement(interval, &before);
        self.ask_about_unassigned(&measurement);
        self.forget_ended(&seen);
        Ok(measurement)
    }

    /// Reads the counters anew; the interval that goes on gets the new reading as its beginning.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(crate) fn restart(&mut self) -> Result<&Reading, Error> {
        self.last = self.snapshot()?;
        self.ticks.reset();
        Ok(&self.last)
    }

    /// The reading that the next interval begins with.
    pub(crate) fn last(&self) -> &Reading {
        &self.last
    }

    /// Replaces that reading by one that has more, such as the last readings of threads that have ended.
    pub(crate) fn set_last(&mut self, last: Reading) {
        self.last = last;
    }

    /// An interval that began with a reading, with all that is known now.
    pub(crate) fn measurement(&self, interval: Interval, start: &Reading) -> Measurement {
        let measurement = Measurement {
            version: VERSION.into(),
            host: self.host.clone(),
            start: Some(start.time),
            began: Some(Began { boot: self.boot.clone(), ns: start.snapshot.at_ns }),
            interrupted: false,
            timing: self.timing,
            sampling: self.cost,
            events: self.events.clone(),
            reasons: Names::default(),
            vms: self.guests.known.values().map(Vm::without_secrets).collect(),
            maps: BTreeMap::new(),
            interval,
            steps: Vec::new(),
        };
        let mut measurement = measurement.with_reasons(&self.reasons);
        measurement.update_maps(self.devices.known());
        measurement
    }

    /// VMs that have ended and are kept, by process id.
    pub(crate) fn ended(&self) -> BTreeSet<u32> {
        self.ended.keys().copied().collect()
    }

    /// VMs that the last reading dropped, by process id: they ended some intervals ago.
    pub(crate) fn forgotten(&self) -> &[u32] {
        &self.forgotten
    }

    /// Counts of the interval so far, for a progress line. Names VMs that have come.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(crate) fn progress(&mut self) -> Result<Progress, Error> {
        let progress = self.probe.progress()?;
        self.guests.note(&progress.pids).iter().for_each(|vm| self.devices.learn(vm));
        Ok(progress)
    }

    /// Asks all VMs again about their devices, but for those that were asked a moment ago.
    pub(crate) fn ask_again(&mut self) {
        for vm in self.guests.known.values() {
            self.devices.renew(vm);
        }
    }

    /// Detaches, and completes a measurement with what the VMs say of their devices, waiting for their answers.
    pub(crate) async fn finish(self, measurement: &mut Measurement) {
        let Self { probe, guests, mut devices, .. } = self;
        drop(probe);
        devices.settle().await;
        measurement.update_maps(devices.known());
        // Devices may have come or moved since they were asked.
        if ask(&guests, &mut devices, &measurement.pids_with_unassigned()) {
            devices.settle().await;
            measurement.update_maps(devices.known());
        }
    }

    fn snapshot(&mut self) -> Result<Reading, Error> {
        let histograms = self.histograms;
        Ok(Reading::now(self.probe.snapshot(|pid| histograms.includes(pid))?))
    }

    /// Notes how an interval was measured and what that cost, and has the sampler plan for the next.
    fn adjust(&mut self, interval: &Interval) -> Result<(), Error> {
        let Some(sampler) = &mut self.sampler else { return Ok(()) };
        let pids = self.guests.known.keys().copied().collect();
        self.timing = sampler.timing();
        self.cost = sampler.adjust(&mut self.probe, interval, &pids)?;
        Ok(())
    }

    fn ask_about_unassigned(&mut self, measurement: &Measurement) {
        ask(&self.guests, &mut self.devices, &measurement.pids_with_unassigned());
    }

    /// Drops VMs that ended some intervals ago. `seen` are the processes of the last reading: a VM among them may
    /// be in the next one too.
    fn forget_ended(&mut self, seen: &BTreeSet<u32>) {
        let ended = self.guests.ended(seen);
        self.ended.retain(|pid, _| ended.contains(pid));
        self.forgotten.clear();
        for pid in ended {
            let intervals = self.ended.entry(pid).or_default();
            *intervals += 1;
            if *intervals > self.linger && self.pinned != Some(pid) {
                self.ended.remove(&pid);
                self.forgotten.push(pid);
                self.guests.known.remove(&pid);
                self.devices.forget(pid);
            }
        }
    }
}

impl Session for LiveSession {
    async fn next(&mut self) -> Result<Option<Measurement>, Error> {
        loop {
            tokio::select! {
                biased;
                _ = self.ticks.tick() => return self.read().await.map(Some),
                () = due(self.sampler.as_ref()) => {
                    if let Some(sampler) = &mut self.sampler {
                        sampler.turn(&mut self.probe)?;
                    }
                }
            }
        }
    }
}

/// Ends of intervals: the first after one `period`.
fn ticks(period: Duration) -> Ticks {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Waits until the sampler has something to do.
async fn due(sampler: Option<&Sampler>) {
    match sampler {
        Some(sampler) => sampler.due().await,
        None => pending().await,
    }
}

/// Begins to ask these VMs again about their devices; says whether any is asked.
fn ask(guests: &Guests, devices: &mut Maps, pids: &BTreeSet<u32>) -> bool {
    let mut asks = false;
    // A VM that has ended has no answer.
    for pid in pids.iter().filter(|&&pid| discover::is_running(pid)) {
        if let Some(vm) = guests.known.get(pid) {
            asks |= devices.renew(vm);
        }
    }
    asks
}

/// Warns of events that this host can't show.
pub(crate) fn warn_of_missing(plan: &AttachPlan, events: &[Event]) {
    for (tracepoint, error) in plan.missing(events) {
        log::warn!("{} unavailable: {error}", tracepoint.without);
    }
}

/// The readings of threads that a later snapshot lacks: they have ended, and these were their last.
pub(crate) fn missing_in(earlier: &Snapshot, later: &Snapshot) -> Vec<VcpuReading> {
    let there: std::collections::HashSet<_> =
        later.vcpus.iter().map(|reading| reading.thread).collect();
    earlier.vcpus.iter().filter(|reading| !there.contains(&reading.thread)).cloned().collect()
}
