//! Limits on the cost. The sampler measures the cost, times fewer exits to stay within a budget, and counts in windows
//! where counting alone exceeds it.

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

/// Limit on the cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Count in windows of a fixed length and period.
    Duty(Duty),
    /// Use at most this share of the VMs' CPU time, percent.
    Budget(f64),
}

/// Controller that keeps a probe within its limit.
#[derive(Debug)]
pub struct Sampler {
    limit: Limit,
    /// Largest share to time.
    timing: Timing,
    /// Time from one window to the next, with a budget.
    period: Duration,
    /// Cost of an exit, from the calibration.
    cost: ExitCost,
    /// Cost of calling an empty program, nanoseconds.
    call_ns: f64,
    plan: SamplingPlan,
    meter: Meter,
    /// Next opening or closing of a window.
    edge: Option<Edge>,
    /// Events too frequent for their programs to stay attached between windows.
    busy: BTreeSet<Event>,
}

/// CPU time of detaching a program and attaching it again, nanoseconds: the kernel patches its code while all CPUs wait.
/// Measured on two CPUs; more take longer.
const REATTACH_NS: f64 = 400_000.0;

/// Start or end of a window.
#[derive(Clone, Copy, Debug)]
struct Edge {
    at: Instant,
    /// Whether the window starts.
    opens: bool,
}

impl Sampler {
    /// Calibrates the cost of an exit and applies the first plan. `pids` are the process IDs of the VMs; where the
    /// budget needs windows, one is opened every `period`.
    ///
    /// # Errors
    /// The probe can't be controlled or read.
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
            Limit::Duty(_) => calibration::Calibration::default(),
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
                // The agent's own CPU time is not known yet: half of the budget is left to it.
                let load = meter.load(pids, calibrated.exits_per_ns);
                plan::plan(&sampler.cost, load, percent / 2.0, timing, period)
            }
        };
        sampler.meter = Meter::start(pids);
        sampler.apply(first, probe)?;
        Ok(sampler)
    }

    /// Share of exits timed now.
    pub fn timing(&self) -> Timing {
        self.plan.timing
    }

    /// Waits for the next opening or closing of a window; forever without windows.
    pub async fn wait_for_edge(&self) {
        match self.edge {
            Some(edge) => sleep_until(edge.at).await,
            None => pending().await,
        }
    }

    /// Opens or closes the window that is due.
    ///
    /// # Errors
    /// A program can't be attached or detached.
    pub fn apply_edge(&mut self, probe: &mut Probe) -> Result<(), ProbeError> {
        let (Some(edge), Some(duty)) = (self.edge, self.plan.duty) else { return Ok(()) };
        if edge.opens {
            probe.open_window()?;
            // Measured from now, as attaching takes a while.
            self.edge = Some(Edge { at: Instant::now() + duty.window, opens: false });
        } else {
            probe.close_window(&self.busy)?;
            let at = (edge.at + duty.period).checked_sub(duty.window).unwrap_or(edge.at);
            self.edge = Some(Edge { at: at.max(Instant::now()), opens: true });
        }
        Ok(())
    }

    /// Cost of the interval since the previous call, from which the next one is planned; `None` without a budget.
    ///
    /// # Errors
    /// The probe can't be controlled.
    pub fn adjust(
        &mut self,
        probe: &mut Probe,
        interval: &Interval,
        pids: &BTreeSet<u32>,
    ) -> Result<Option<SamplingCost>, ProbeError> {
        if let Some(duty) = self.plan.duty.filter(|_| interval.span_ns > 0) {
            self.busy = busy(interval, REATTACH_NS / self.call_ns / duty.period.as_nanos() as f64);
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
        // An interval without a window says nothing about the load.
        if interval.span_ns > 0 && next.differs(&self.plan) {
            self.apply(next, probe)?;
        }
        Ok(Some(spent))
    }

    /// Sets timing and windows of the probe.
    fn apply(&mut self, plan: SamplingPlan, probe: &mut Probe) -> Result<(), ProbeError> {
        log::debug!("new sampling plan: {plan:?}");
        probe.set_timing_share(plan.timing.share())?;
        match plan.duty {
            None => {
                probe.open_window()?;
                self.edge = None;
            }
            // The first window opens at once; later plans only change the length of the next one.
            Some(_) if self.edge.is_none() => {
                self.edge = Some(Edge { at: Instant::now(), opens: true });
                probe.close_window(&self.busy)?;
            }
            Some(_) => {}
        }
        self.plan = plan;
        Ok(())
    }
}

/// Events with a higher rate than this, per nanosecond.
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

/// Exits of a vCPU; other events where KVM reports no exits.
fn events(vcpu: &VcpuInterval) -> u64 {
    if vcpu.observed > 0 {
        return vcpu.observed;
    }
    vcpu.details.iter().map(|row| row.unmatched).sum()
}
