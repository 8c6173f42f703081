//! What of all exits is counted and timed, where that is to cost no more than so much: measures what is spent,
//! and changes the share of exits that are timed; where counting alone is too much, when it is counted at all.

mod calibration;
mod meter;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use vmexit_core::{
    counters::{Interval, VcpuInterval},
    event::Event,
    kind,
    sampling::SamplingCost,
    timing::Timing,
};

pub use self::plan::Duty;
use self::{
    calibration::ExitCost,
    meter::Meter,
    plan::{SamplingPlan, plan},
};
use crate::probe::{Probe, ProbeError};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// To be counted at these times alone.
    Duty(Duty),
    /// To cost no more than this share of the CPU time that the VMs take, percent.
    Budget(f64),
}

/// Keeps a probe within its limit.
#[derive(Debug)]
pub struct Sampler {
    limit: Limit,
    /// The most that is timed.
    timing: Timing,
    /// From one window to the next, where the sampler chooses.
    period: Duration,
    cost: ExitCost,
    call_ns: f64,
    plan: SamplingPlan,
    meter: Meter,
    /// When the window is opened or shut next.
    edge: Option<Edge>,
    /// What comes too often for its programs to stay attached between windows.
    busy: BTreeSet<Event>,
}

/// CPU time that it takes to detach a program and to attach it again, nanoseconds: the kernel changes its own code for
/// that, with all CPUs waiting. Measured on two; more CPUs take longer.
const TOGGLE_NS: f64 = 400_000.0;

#[derive(Clone, Copy, Debug)]
struct Edge {
    at: Instant,
    opens: bool,
}

impl Sampler {
    /// Finds out what an exit costs here, and begins. `pids` are those of the VMs that there are; a window, if
    /// it takes windows, is opened once in a `period`.
    ///
    /// # Errors
    /// The probe does not do as it is told.
    pub async fn start(
        probe: &mut Probe,
        limit: Limit,
        timing: Timing,
        period: Duration,
        pids: &BTreeSet<u32>,
    ) -> Result<Self, ProbeError> {
        let mut meter = Meter::start(pids);
        let calibrated = match limit {
            Limit::Budget(_) => calibration::calibrate(probe).await?,
            Limit::Duty(_) => calibration::Calibrated::default(),
        };
        let plan = SamplingPlan { timing, duty: None };
        let mut sampler = Self {
            limit,
            timing,
            period,
            cost: calibrated.cost,
            call_ns: calibrated.call_ns,
            plan,
            meter: meter.clone(),
            edge: None,
            busy: Event::ALL.into(),
        };
        let first = match limit {
            Limit::Duty(duty) => SamplingPlan { timing, duty: Some(duty) },
            Limit::Budget(percent) => {
                // What the agent takes is not known yet: half of it, say.
                let load = meter.load(pids, calibrated.exits_per_ns);
                plan::plan(&sampler.cost, load, percent / 2.0, timing, period)
            }
        };
        sampler.meter = Meter::start(pids);
        sampler.follow(first, probe)?;
        Ok(sampler)
    }

    /// Which exits are timed now.
    pub fn timing(&self) -> Timing {
        self.plan.timing
    }

    /// Waits until the window is to be opened or shut: for ever if it never is.
    pub async fn due(&self) {
        match self.edge {
            Some(edge) => sleep_until(edge.at).await,
            None => pending().await,
        }
    }

    /// Opens or shuts the window.
    ///
    /// # Errors
    /// The probe does not do as it is told.
    pub fn turn(&mut self, probe: &mut Probe) -> Result<(), ProbeError> {
        let (Some(edge), Some(duty)) = (self.edge, self.plan.duty) else { return Ok(()) };
        if edge.opens {
            probe.open()?;
            // From now on, for it may have taken a while.
            self.edge = Some(Edge { at: Instant::now() + duty.open, opens: false });
        } else {
            probe.shut(&self.busy)?;
            let at = (edge.at + duty.every).checked_sub(duty.open).unwrap_or(edge.at);
            self.edge = Some(Edge { at: at.max(Instant::now()), opens: true });
        }
        Ok(())
    }

    /// Says what was spent in the interval since it was asked last, and makes its plans for the next by that;
    /// `None` where there is no budget.
    ///
    /// # Errors
    /// The probe does not do as it is told.
    pub fn adjust(
        &mut self,
        probe: &mut Probe,
        interval: &Interval,
        pids: &BTreeSet<u32>,
    ) -> Result<Option<SamplingCost>, ProbeError> {
        if let Some(duty) = self.plan.duty.filter(|_| interval.span_ns > 0) {
            self.busy = busy(interval, TOGGLE_NS / self.call_ns / duty.every.as_nanos() as f64);
        }
        let Limit::Budget(budget_percent) = self.limit else { return Ok(None) };
        let exits: u64 = interval.vcpus.iter().map(events).sum();
        let rate = exits as f64 / (interval.span_ns as f64).max(1.0);
        let load = self.meter.load(pids, rate);
        let spent = SamplingCost {
            budget_percent,
            kernel_ns: (self.cost.of(self.plan.timing) * exits as f64) as u64,
            agent_ns: load.agent_ns,
            vms_ns: load.vms_ns,
        };
        let next = plan(&self.cost, load, budget_percent, self.timing, self.period);
        // Where nothing was watched nothing is known.
        if interval.span_ns > 0 && next.differs(&self.plan) {
            self.follow(next, probe)?;
        }
        Ok(Some(spent))
    }

    fn follow(&mut self, plan: SamplingPlan, probe: &mut Probe) -> Result<(), ProbeError> {
        log::debug!("from now on {plan:?}");
        probe.time(plan.timing.share())?;
        match plan.duty {
            None => {
                probe.open()?;
                self.edge = None;
            }
            // At once, if none is under way.
            Some(_) if self.edge.is_none() => {
                self.edge = Some(Edge { at: Instant::now(), opens: true });
                probe.shut(&self.busy)?;
            }
            Some(_) => {}
        }
        self.plan = plan;
        Ok(())
    }
}

/// Events that come more often than so many times a nanosecond.
fn busy(interval: &Interval, rate: f64) -> BTreeSet<Event> {
    let mut counts: BTreeMap<Event, u64> = BTreeMap::new();
    for vcpu in &interval.vcpus {
        for row in &vcpu.details {
            if let Some(kind) = row.key.table() {
                *counts.entry(kind::event(kind)).or_default() +=
                    row.exits + row.unmatched + row.extra_accesses;
            }
        }
        *counts.entry(Event::Halt).or_default() += vcpu.halts.blocked + vcpu.halts.polled;
    }
    let most = rate * interval.span_ns as f64;
    counts.retain(|_, count| *count as f64 > most);
    counts.into_keys().collect()
}

/// Exits; events where the host reports none.
fn events(vcpu: &VcpuInterval) -> u64 {
    if vcpu.observed > 0 {
        return vcpu.observed;
    }
    vcpu.details.iter().map(|row| row.unmatched).sum()
}
