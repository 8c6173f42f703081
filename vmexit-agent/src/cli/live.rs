//! What all commands that report on running VMs share: how counting begins, who the VMs are, what is
//! asked of them, and how an interval becomes a report.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    time::{Duration, SystemTime},
};

use super::{
    args::{CountArgs, WatchArgs},
    error::Error,
    guests::Guests,
};
use crate::{
    guest::{self, Vm},
    host::{self, Host, preflight},
    model::{self, Layout, Report, Sources, Span},
    monitor::Maps,
    probe::{Event, Options, Probe, Timing, plan::Plan},
    reason::Names,
    recording::{Began, Recording, VERSION},
    sampler::{Sampler, Spent},
    snapshot::{Interval, Snapshot},
};

/// VMs whose exits are counted, and what is known of them.
pub(super) struct Live {
    pub(super) guests: Guests,
    pub(super) maps: Maps,
    host: Host,
    boot: String,
    reasons: Names,
    /// Which exits were timed in the last interval.
    pub(super) timing: Timing,
    /// What that took, where there is a budget.
    pub(super) spent: Option<Spent>,
    events: BTreeSet<Event>,
    sampler: Option<Sampler>,
}

impl Live {
    /// Finds the VMs, begins to ask them about their devices, and attaches: from here on, and as long as
    /// there is the probe, everything is counted.
    ///
    /// What is to be counted at times only is counted once in a `period`.
    pub(super) async fn start(
        args: &CountArgs,
        period: Duration,
        find: impl FnOnce(&WatchArgs) -> Result<Guests, Error>,
    ) -> Result<(Probe, Self), Error> {
        preflight::check()?;
        let plan = Plan::make(args.watch.tracepoints)?;
        warn_of_missing(&plan, &args.events);
        let guests = find(&args.watch)?;
        let options = Options {
            max_vcpus: args.watch.max_vcpus.unwrap_or_else(|| guests.room()),
            pids: guests.filter.clone(),
            timing: args.timing,
            events: args.events.iter().copied().collect(),
            sampled: args.limit().is_some(),
            slow: None,
        };
        let mut maps = Maps::new(args.watch.devices.options());
        guests.known.values().for_each(|vm| maps.learn(vm));
        let mut probe = Probe::start(&plan, &options)?;
        let sampler = match args.limit() {
            Some(limit) => {
                let pids = guests.known.keys().copied().collect();
                Some(Sampler::start(&mut probe, limit, args.timing, period, &pids).await?)
            }
            None => None,
        };
        let live = Self {
            sampler,
            spent: None,
            guests,
            maps,
            host: Host::current(),
            boot: host::boot_id(),
            reasons: Names::of_this_kernel(),
            timing: options.timing,
            events: options.events,
        };
        Ok((probe, live))
    }

    /// Waits until there is something to do for [`Self::turn`].
    pub(super) async fn due(&self) {
        match &self.sampler {
            Some(sampler) => sampler.due().await,
            None => pending().await,
        }
    }

    /// Lets it be counted, or not, as it is due.
    pub(super) fn turn(&mut self, probe: &mut Probe) -> Result<(), Error> {
        self.sampler.as_mut().map_or(Ok(()), |sampler| sampler.turn(probe)).map_err(Error::Probe)
    }

    /// Notes how an interval was measured, and what that took: to be told each before it is put into words. Says
    /// whether the next is measured otherwise.
    pub(super) fn adjust(&mut self, probe: &mut Probe, interval: &Interval) -> Result<bool, Error> {
        let Some(sampler) = &mut self.sampler else { return Ok(false) };
        let pids = self.guests.known.keys().copied().collect();
        self.timing = sampler.timing();
        self.spent = sampler.adjust(probe, interval, &pids)?;
        Ok(self.timing != sampler.timing())
    }

    /// Looks up the VMs among these processes that have come since, and begins to ask them.
    pub(super) fn note(&mut self, pids: &BTreeSet<u32>) {
        self.guests.note(pids).iter().for_each(|vm| self.maps.learn(vm));
    }

    /// Begins to ask all VMs again that were not asked a moment ago.
    pub(super) fn ask_again(&mut self) {
        for vm in self.guests.known.values() {
            self.maps.renew(vm);
        }
    }

    /// Looks no further at a VM that has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        self.guests.known.remove(&pid);
        self.maps.forget(pid);
    }

    /// Puts an interval into words, as far as the VMs have answered.
    pub(super) fn report(&self, interval: &Interval, span: Span, layout: Layout) -> Report {
        let sources = Sources {
            version: VERSION,
            host: &self.host,
            span,
            timing: self.timing,
            spent: self.spent,
            events: &self.events,
            reasons: &self.reasons,
            maps: self.maps.known(),
            steps: &[],
            layout,
            guests: self.guests.known.iter().map(|(&pid, vm)| (pid, vm)).collect(),
        };
        model::build(interval, sources)
    }

    /// The interval to be kept, with what is known of the VMs but for their devices.
    pub(super) fn recording(
        &self,
        interval: Interval,
        start: Moment,
        interrupted: bool,
    ) -> Recording {
        let recording = Recording {
            version: VERSION.into(),
            host: self.host.clone(),
            start: Some(start.time),
            began: Some(Began { boot: self.boot.clone(), ns: start.at_ns }),
            interrupted,
            timing: self.timing,
            spent: self.spent,
            events: self.events.clone(),
            reasons: Names::default(),
            vms: self.guests.known.values().map(Vm::without_secrets).collect(),
            maps: BTreeMap::new(),
            interval,
            steps: Vec::new(),
        };
        recording.with_reasons(&self.reasons)
    }

    /// Begins to ask again those VMs of a report whose guests accessed something where nothing is by
    /// what is known of them; says whether there are any.
    pub(super) fn renew(&mut self, report: &Report) -> bool {
        let mut asks = false;
        for vm in report.vms.iter().filter(|vm| vm.has_unassigned()) {
            // One that has ended has no answer.
            let runs = |guest: &&Vm| guest::is_running(guest.pid);
            if let Some(guest) = self.guests.known.get(&vm.pid).filter(runs) {
                asks |= self.maps.renew(guest);
            }
        }
        asks
    }
}

/// When something was read, by the clock that people have and by the kernel's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) time: SystemTime,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) at_ns: u64,
}

impl Moment {
    /// That of a snapshot that was taken right now.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { time: SystemTime::now(), at_ns: snapshot.at_ns }
    }
}

/// Says what of these events this host can't show.
pub(super) fn warn_of_missing(plan: &Plan, events: &[Event]) {
    for (tracepoint, error) in plan.missing(events) {
        log::warn!("not shown will be {}: {error}", tracepoint.without);
    }
}
