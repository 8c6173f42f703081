//! Live session: attached programs, the running VMs, and the reading at the start of the current interval.

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

/// A snapshot and its wall-clock time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) time: SystemTime,
}

impl Reading {
    /// A snapshot taken just now.
    pub(crate) fn now(snapshot: Snapshot) -> Self {
        Self { snapshot: Rc::new(snapshot), time: SystemTime::now() }
    }

    /// Counters that are all zero.
    pub(crate) fn zero() -> Self {
        Self::now(Snapshot { at_ns: now_ns(), ..Snapshot::default() })
    }
}

/// Session that counts the exits of running VMs until it is dropped.
pub(crate) struct LiveSession {
    probe: Probe,
    sampler: Option<Sampler>,
    pub(crate) guests: Guests,
    devices: Maps,
    host: Host,
    boot: String,
    reasons: Names,
    events: BTreeSet<Event>,
    /// Share of exits timed in the last interval.
    timing: Timing,
    /// Cost of measuring in the last interval; `None` without a budget.
    cost: Option<SamplingCost>,
    ticks: Ticks,
    /// Reading at the start of the current interval.
    last: Reading,
    /// VMs whose histograms are read.
    histograms: Selection,
    /// Intervals since a VM has ended, by process ID.
    ended: BTreeMap<u32, u32>,
    /// Intervals for which a VM that has ended is kept.
    linger: u32,
    /// VM that is kept even longer, by process ID.
    pinned: Option<u32>,
    /// VMs removed by the last reading, by process ID.
    forgotten: Vec<u32>,
}

impl LiveSession {
    /// Finds the VMs, starts to query their devices, attaches the programs and takes the first reading. An interval
    /// ends every `period`; with a budget that needs windows, one begins every `window`.
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
        warn_of_missing_events(&plan, &args.events);
        let guests = find(&args.watch)?;
        let options = ProbeOptions {
            max_vcpus: args.watch.max_vcpus.unwrap_or_else(|| guests.vcpu_capacity()),
            pids: guests.filter.clone(),
            timing: args.timing,
            events: args.events.iter().copied().collect(),
            sampled: args.limit().is_some(),
            slow: None,
        };
        let mut devices = Maps::new(args.watch.devices.options());
        guests.known.values().for_each(|vm| devices.query(vm));
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

    /// Sets the length of intervals, from now on.
    pub(crate) fn set_period(&mut self, period: Duration) {
        self.ticks = ticks(period);
    }

    /// Selects the VMs whose histograms are read, and a VM to keep after it has ended, by process ID.
    pub(crate) fn set_selection(&mut self, histograms: Selection, pinned: Option<u32>) {
        self.histograms = histograms;
        self.pinned = pinned;
    }

    /// Sets how many intervals a VM is kept after it has ended.
    pub(crate) fn set_linger(&mut self, intervals: u32) {
        self.linger = intervals;
    }

    /// Ends the interval now.
    ///
    /// # Errors
    /// Counters can't be read, or the sampler can't attach or detach.
    pub(crate) async fn end_interval(&mut self) -> Result<Measurement, Error> {
        let now = self.snapshot()?;
        let seen = now.snapshot.pids();
        self.guests.add_new(&seen).iter().for_each(|vm| self.devices.query(vm));
        self.devices.collect_finished().await;
        let before = std::mem::replace(&mut self.last, now);
        let interval = Interval::between(&before.snapshot, &self.last.snapshot);
        self.adjust(&interval)?;
        let measurement = self.measurement(interval, &before);
        self.query_unassigned(&measurement);
        self.forget_ended(&seen);
        Ok(measurement)
    }

    /// Reads the counters and restarts the current interval at that reading.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(crate) fn restart(&mut self) -> Result<&Reading, Error> {
        self.last = self.snapshot()?;
        self.ticks.reset();
        Ok(&self.last)
    }

    /// Reading at the start of the current interval.
    pub(crate) fn last(&self) -> &Reading {
        &self.last
    }

    /// Replaces the reading at the start of the current interval.
    pub(crate) fn set_last(&mut self, last: Reading) {
        self.last = last;
    }

    /// Measurement of an interval that began at a reading, with the VMs and devices known now.
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

    /// VMs that have ended and are still kept, by process ID.
    pub(crate) fn ended(&self) -> BTreeSet<u32> {
        self.ended.keys().copied().collect()
    }

    /// VMs removed by the last reading, by process ID.
    pub(crate) fn forgotten(&self) -> &[u32] {
        &self.forgotten
    }

    /// Events and VMs so far, for a progress line. Adds new VMs.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(crate) fn progress(&mut self) -> Result<Progress, Error> {
        let progress = self.probe.progress()?;
        self.guests.add_new(&progress.pids).iter().for_each(|vm| self.devices.query(vm));
        Ok(progress)
    }

    /// Queries the devices of all VMs again, but for those queried a moment ago.
    pub(crate) fn query_devices_again(&mut self) {
        for vm in self.guests.known.values() {
            self.devices.query_again(vm);
        }
    }

    /// Detaches the programs, waits for pending queries of devices, and adds the answers to a measurement.
    pub(crate) async fn finish(self, measurement: &mut Measurement) {
        let Self { probe, guests, mut devices, .. } = self;
        drop(probe);
        devices.wait().await;
        measurement.update_maps(devices.known());
        // Devices may have been added or moved since the last query.
        if query_again(&guests, &mut devices, &measurement.pids_with_unassigned()) {
            devices.wait().await;
            measurement.update_maps(devices.known());
        }
    }

    fn snapshot(&mut self) -> Result<Reading, Error> {
        let histograms = self.histograms;
        Ok(Reading::now(self.probe.snapshot(|pid| histograms.includes(pid))?))
    }

    /// Saves timing and cost of an interval, and lets the sampler plan the next.
    fn adjust(&mut self, interval: &Interval) -> Result<(), Error> {
        let Some(sampler) = &mut self.sampler else { return Ok(()) };
        let pids = self.guests.known.keys().copied().collect();
        self.timing = sampler.timing();
        self.cost = sampler.adjust(&mut self.probe, interval, &pids)?;
        Ok(())
    }

    /// Queries VMs again that accessed addresses without a known device.
    fn query_unassigned(&mut self, measurement: &Measurement) {
        query_again(&self.guests, &mut self.devices, &measurement.pids_with_unassigned());
    }

    /// Removes VMs that ended some intervals ago. `seen` are the process IDs of the last reading.
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
                self.devices.remove(pid);
            }
        }
    }
}

impl Session for LiveSession {
    async fn next(&mut self) -> Result<Option<Measurement>, Error> {
        loop {
            tokio::select! {
                biased;
                _ = self.ticks.tick() => return self.end_interval().await.map(Some),
                () = wait_for_edge(self.sampler.as_ref()) => {
                    if let Some(sampler) = &mut self.sampler {
                        sampler.apply_edge(&mut self.probe)?;
                    }
                }
            }
        }
    }
}

/// Ticks at the ends of intervals, the first after one `period`.
fn ticks(period: Duration) -> Ticks {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Waits until the sampler opens or closes a window; forever without a sampler.
async fn wait_for_edge(sampler: Option<&Sampler>) {
    match sampler {
        Some(sampler) => sampler.wait_for_edge().await,
        None => pending().await,
    }
}

/// Starts to query the devices of these VMs again; true if a query was started.
fn query_again(guests: &Guests, devices: &mut Maps, pids: &BTreeSet<u32>) -> bool {
    let mut started = false;
    // A VM that has ended can't answer.
    for pid in pids.iter().filter(|&&pid| discover::is_running(pid)) {
        if let Some(vm) = guests.known.get(pid) {
            started |= devices.query_again(vm);
        }
    }
    started
}

/// Logs a warning for each of the events that this host has no readable tracepoint for.
pub(crate) fn warn_of_missing_events(plan: &AttachPlan, events: &[Event]) {
    for (tracepoint, error) in plan.missing(events) {
        log::warn!("{} unavailable: {error}", tracepoint.without);
    }
}

/// Readings of threads that are not in a later snapshot: the last ones, as these threads have ended.
pub(crate) fn missing_in(earlier: &Snapshot, later: &Snapshot) -> Vec<VcpuReading> {
    let remaining: std::collections::HashSet<_> =
        later.vcpus.iter().map(|reading| reading.thread).collect();
    earlier.vcpus.iter().filter(|reading| !remaining.contains(&reading.thread)).cloned().collect()
}
