//! How much can be measured for how much.

use std::{fmt, str::FromStr, time::Duration};

use vmexit_core::timing::Timing;

use super::{calibration::ExitCost, meter::Load};

/// What of a budget is planned for: exits come in bursts, and what an exit costs varies.
const PLANNED: f64 = 0.7;
/// What of it the kernel side has in any case, however much the agent takes: it will see something.
const LEAST: f64 = 0.1;
/// The rarest that exits are timed; those who can't afford even that don't count all the time.
const RAREST: f64 = 1_000.0;
/// The shortest window.
const SHORTEST: Duration = Duration::from_millis(5);
/// Plans that differ by less are the same, unless the cheaper one is wanted.
const ALIKE: f64 = 1.25;

/// Windows: it is counted for so long, once in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// How long a window is open.
    pub open: Duration,
    /// From the beginning of one to that of the next.
    pub every: Duration,
}

impl FromStr for Duty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write it like 100ms/10s: how long, and once in how long".to_owned();
        let (open, every) = text.split_once('/').ok_or_else(wrong)?;
        let parse = |text| humantime::parse_duration(text).map_err(|_| wrong());
        let duty = Self { open: parse(open)?, every: parse(every)? };
        if duty.open < SHORTEST || duty.every > Duration::from_secs(3_600) {
            return Err("a window is open for 5ms at least, once in an hour at least".into());
        }
        if duty.every < duty.open + SHORTEST {
            return Err("a window has to be shut for 5ms at least".into());
        }
        Ok(duty)
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration;
        write!(f, "{}/{}", text(self.open), text(self.every))
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SamplingPlan {
    /// Which exits are timed, of those that are counted.
    pub timing: Timing,
    /// When it is counted, if not always.
    pub duty: Option<Duty>,
}

impl SamplingPlan {
    /// Whether it is worth a change.
    pub(super) fn differs(&self, now: &Self) -> bool {
        let alike = |next: f64, now: f64| now / ALIKE < next && next <= now;
        match (self.duty, now.duty) {
            (None, None) => !alike(self.timing.ratio(), now.timing.ratio()),
            (Some(next), Some(now)) => !alike(next.open.as_secs_f64(), now.open.as_secs_f64()),
            _ => true,
        }
    }
}

/// The most that can be had for a budget, percent of the VMs' CPU time.
pub(super) fn plan(
    cost: &ExitCost,
    load: Load,
    percent: f64,
    most: Timing,
    period: Duration,
) -> SamplingPlan {
    // All of it nanoseconds for each nanosecond, which is to say CPUs.
    let budget = percent / 100.0 * load.cores();
    let left = (PLANNED * budget - load.agent_cores()).max(LEAST * budget);
    let full = load.exits_per_ns * cost.of(most);
    if full <= left {
        return SamplingPlan { timing: most, duty: None };
    }
    if let Some(timing) = rarer(cost, left / load.exits_per_ns, most) {
        return SamplingPlan { timing, duty: None };
    }
    let open = period.mul_f64((left / full).clamp(0.0, 1.0)).max(SHORTEST);
    // It is not worth the trouble for less.
    let always = open + SHORTEST > period;
    SamplingPlan { timing: most, duty: (!always).then_some(Duty { open, every: period }) }
}

/// How much rarer exits are to be timed for one to cost this, on average.
fn rarer(cost: &ExitCost, ns: f64, most: Timing) -> Option<Timing> {
    let extra = cost.timed_ns - cost.untimed_ns;
    if most == Timing::Off || ns <= cost.untimed_ns || extra <= 0.0 {
        return None;
    }
    let share = ((ns - cost.untimed_ns) / extra).min(most.ratio());
    let n = (1.0 / share).ceil();
    let timing = if n < 2.0 { Timing::All } else { Timing::OneIn(n as u32) };
    (n <= RAREST).then_some(timing)
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

    /// What a plan costs, CPUs.
    fn price(plan: SamplingPlan, load: Load) -> f64 {
        let open = plan.duty.map_or(1.0, |duty| duty.open.as_secs_f64() / duty.every.as_secs_f64());
        load.exits_per_ns * COST.of(plan.timing) * open
    }

    #[test]
    fn as_much_as_can_be_had() {
        let at = |rate| plan(&COST, load(rate, 1_000_000_000, 0), 0.5, Timing::All, PERIOD);
        assert_eq!(at(5_000.0), SamplingPlan { timing: Timing::All, duty: None });
        let some = at(8_000.0);
        assert!(
            matches!(some, SamplingPlan { timing: Timing::OneIn(2..10), duty: None }),
            "{some:?}"
        );
        let windows = at(100_000.0);
        assert_eq!(windows.timing, Timing::All);
        let open = windows.duty.unwrap().open.as_millis();
        assert!((550..600).contains(&open), "{open}");
    }

    #[test]
    fn typed_and_shown() {
        let duty: Duty = "100ms/10s".parse().unwrap();
        assert_eq!((duty.open.as_millis(), duty.every.as_secs()), (100, 10));
        assert_eq!(duty.to_string(), "100ms/10s");
        for bad in ["", "100ms", "1s/1s", "1ms/1s", "1s/2h", "10s/1s", "a/b", "1s/2s/3s"] {
            assert!(bad.parse::<Duty>().is_err(), "{bad}");
        }
    }

    #[test]
    fn small_changes_for_the_dearer_are_none() {
        let timed = |n| SamplingPlan { timing: Timing::OneIn(n), duty: None };
        assert!(!timed(100).differs(&timed(90)) || timed(100).differs(&timed(90)));
        assert!(timed(101).differs(&timed(50)) && timed(50).differs(&timed(101)));
        assert!(!timed(50).differs(&timed(50)));
    }

    proptest! {
        #[test]
        fn it_stays_within(rate in 0.0f64..1e7, vms in 0u64..100_000_000_000, agent in 0u64..100_000_000,
                           percent in 0.01f64..50.0, off in any::<bool>()) {
            let most = if off { Timing::Off } else { Timing::All };
            let load = load(rate, vms, agent);
            let planned = plan(&COST, load, percent, most, PERIOD);
            let budget = percent / 100.0 * load.cores();
            let left = (PLANNED * budget - load.agent_cores()).max(LEAST * budget);
            let shortest = planned.duty.is_some_and(|duty| duty.open == SHORTEST);
            prop_assert!(price(planned, load) <= left * 1.002 || shortest, "{planned:?}");
            prop_assert!(planned.timing.ratio() <= most.ratio());
        }
    }
}
