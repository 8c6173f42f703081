//! Sampling plans: which share to time, and in which windows to count, for a budget.

use std::{fmt, str::FromStr, time::Duration};

use vmexit_core::timing::Timing;

use super::{calibration::ExitCost, meter::Load};

/// Share of the budget to plan for: exits come in bursts, and their cost varies.
const PLANNED_SHARE: f64 = 0.7;
/// Share of the budget for the eBPF programs even if the agent uses all of it, so that some exits are seen.
const MIN_KERNEL_SHARE: f64 = 0.1;
/// Largest N of timing one exit in N; below that share, exits are counted in windows instead.
const MAX_ONE_IN: f64 = 1_000.0;
/// Shortest window, and shortest pause between two.
const MIN_WINDOW: Duration = Duration::from_millis(5);
/// Ratio by which a plan must measure less than the current one to replace it.
const MIN_RATIO: f64 = 1.25;

/// Windows of a fixed length and period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Length of a window.
    pub window: Duration,
    /// Time from the start of a window to the start of the next.
    pub period: Duration,
}

impl FromStr for Duty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write length and period of the windows, like 100ms/10s".to_owned();
        let (window, period) = text.split_once('/').ok_or_else(wrong)?;
        let parse = |text| humantime::parse_duration(text).map_err(|_| wrong());
        let duty = Self { window: parse(window)?, period: parse(period)? };
        if duty.window < MIN_WINDOW || duty.period > Duration::from_secs(3_600) {
            return Err("a window must be at least 5ms long, and the period at most 1h".into());
        }
        if duty.period < duty.window + MIN_WINDOW {
            return Err("the period must be at least 5ms longer than the window".into());
        }
        Ok(duty)
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration;
        write!(f, "{}/{}", text(self.window), text(self.period))
    }
}

/// Timing and windows of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SamplingPlan {
    /// Share of the counted exits that are timed.
    pub timing: Timing,
    /// Windows; `None` to count all the time.
    pub duty: Option<Duty>,
}

impl SamplingPlan {
    /// Whether this plan should replace the current one: it measures more, or less by [`MIN_RATIO`] at least.
    pub(super) fn differs(&self, now: &Self) -> bool {
        let alike = |next: f64, now: f64| now / MIN_RATIO < next && next <= now;
        match (self.duty, now.duty) {
            (None, None) => !alike(self.timing.ratio(), now.timing.ratio()),
            (Some(next), Some(now)) => !alike(next.window.as_secs_f64(), now.window.as_secs_f64()),
            _ => true,
        }
    }
}

/// The plan that measures most within a budget, in percent of the VMs' CPU time. `most` is the largest share to time,
/// `period` that of windows.
pub(super) fn plan(
    cost: &ExitCost,
    load: Load,
    percent: f64,
    most: Timing,
    period: Duration,
) -> SamplingPlan {
    // In CPUs: nanoseconds of CPU time per nanosecond.
    let budget = percent / 100.0 * load.cores();
    let left = (PLANNED_SHARE * budget - load.agent_cores()).max(MIN_KERNEL_SHARE * budget);
    let full = load.exits_per_ns * cost.of(most);
    if full <= left {
        return SamplingPlan { timing: most, duty: None };
    }
    if let Some(timing) = timing_for(cost, left / load.exits_per_ns, most) {
        return SamplingPlan { timing, duty: None };
    }
    let window = period.mul_f64((left / full).clamp(0.0, 1.0)).max(MIN_WINDOW);
    // A shorter pause between windows saves too little.
    let always = window + MIN_WINDOW > period;
    SamplingPlan { timing: most, duty: (!always).then_some(Duty { window, period }) }
}

/// Timing with which an exit costs `ns` on average; `None` if even one in [`MAX_ONE_IN`] costs more.
fn timing_for(cost: &ExitCost, ns: f64, most: Timing) -> Option<Timing> {
    let extra = cost.timed_ns - cost.untimed_ns;
    if most == Timing::Off || ns <= cost.untimed_ns || extra <= 0.0 {
        return None;
    }
    let share = ((ns - cost.untimed_ns) / extra).min(most.ratio());
    let n = (1.0 / share).ceil();
    let timing = if n < 2.0 { Timing::All } else { Timing::OneIn(n as u32) };
    (n <= MAX_ONE_IN).then_some(timing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COST: ExitCost = ExitCost { untimed_ns: 400.0, timed_ns: 600.0 };
    const PERIOD: Duration = Duration::from_secs(10);

    fn load(exits_per_second: f64, vms_ns: u64, agent_ns: u64) -> Load {
        Load { elapsed_ns: 1_000_000_000, vms_ns, agent_ns, exits_per_ns: exits_per_second / 1e9 }
    }

    /// Cost of a plan, CPUs.
    fn price(plan: SamplingPlan, load: Load) -> f64 {
        let open =
            plan.duty.map_or(1.0, |duty| duty.window.as_secs_f64() / duty.period.as_secs_f64());
        load.exits_per_ns * COST.of(plan.timing) * open
    }

    #[test]
    fn plan_times_all_then_fewer_then_opens_windows_as_rate_grows() {
        let at = |rate| plan(&COST, load(rate, 1_000_000_000, 0), 0.5, Timing::All, PERIOD);
        assert_eq!(at(5_000.0), SamplingPlan { timing: Timing::All, duty: None });
        let some = at(8_000.0);
        assert!(
            matches!(some, SamplingPlan { timing: Timing::OneIn(2..10), duty: None }),
            "{some:?}"
        );
        let windows = at(100_000.0);
        assert_eq!(windows.timing, Timing::All);
        let open = windows.duty.unwrap().window.as_millis();
        assert!((550..600).contains(&open), "{open}");
    }

    #[test]
    fn duty_parses_and_displays() {
        let duty: Duty = "100ms/10s".parse().unwrap();
        assert_eq!((duty.window.as_millis(), duty.period.as_secs()), (100, 10));
        assert_eq!(duty.to_string(), "100ms/10s");
        for bad in ["", "100ms", "1s/1s", "1ms/1s", "1s/2h", "10s/1s", "a/b", "1s/2s/3s"] {
            assert!(bad.parse::<Duty>().is_err(), "{bad}");
        }
    }

    #[test]
    fn plan_slightly_below_current_does_not_differ() {
        let timed = |n| SamplingPlan { timing: Timing::OneIn(n), duty: None };
        assert!(!timed(100).differs(&timed(90)) && timed(90).differs(&timed(100)));
        assert!(timed(101).differs(&timed(50)) && timed(50).differs(&timed(101)));
        assert!(!timed(50).differs(&timed(50)));
    }

    proptest! {
        #[test]
        fn plan_stays_within_budget(rate in 0.0f64..1e7, vms in 0u64..100_000_000_000, agent in 0u64..100_000_000,
                           percent in 0.01f64..50.0, off in any::<bool>()) {
            let most = if off { Timing::Off } else { Timing::All };
            let load = load(rate, vms, agent);
            let planned = plan(&COST, load, percent, most, PERIOD);
            let budget = percent / 100.0 * load.cores();
            let left = (PLANNED_SHARE * budget - load.agent_cores()).max(MIN_KERNEL_SHARE * budget);
            let shortest = planned.duty.is_some_and(|duty| duty.window == MIN_WINDOW);
            prop_assert!(price(planned, load) <= left * 1.002 || shortest, "{planned:?}");
            prop_assert!(planned.timing.ratio() <= most.ratio());
        }
    }
}
