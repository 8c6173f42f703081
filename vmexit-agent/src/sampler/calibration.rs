//! What it costs to count an exit on this machine, and to time it.

use std::time::Duration;

use aya::sys::{Stats, enable_stats};
use tokio::time::sleep;
use vmexit_core::timing::Timing;

use crate::probe::{Call, Probe, ProbeError, now_ns};

/// How long it is counted in each way, and how often: an interrupt may come into a program, whose time then is in
/// the program's, so each way is worth its median.
const WINDOW: Duration = Duration::from_millis(50);
const ROUNDS: usize = 3;
/// Exits in a window that it takes to tell.
const ENOUGH: u64 = 50;
/// What an exit costs where nobody could measure it, in calls of a program that does nothing: some more than
/// the most of what the labs have measured (IN to QEMU with all events in docs/overhead.md: 5.6 and 7.1).
const UNTIMED_CALLS: f64 = 6.5;
const TIMED_CALLS: f64 = 8.5;

/// CPU time that an exit costs, on average over the programs that run for it, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ExitCost {
    /// That is counted.
    pub untimed_ns: f64,
    /// That is counted and timed.
    pub timed_ns: f64,
}

impl ExitCost {
    /// On average, with so many timed.
    pub(super) fn of(&self, timing: Timing) -> f64 {
        self.untimed_ns + timing.ratio() * (self.timed_ns - self.untimed_ns)
    }
}

/// What was found out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibrated {
    pub cost: ExitCost,
    /// What the kernel takes to call a program that does nothing.
    pub call_ns: f64,
    /// How many exits there were meanwhile.
    pub exits_per_ns: f64,
}

/// Where nobody asked for a budget.
impl Default for Calibrated {
    fn default() -> Self {
        Self { cost: ExitCost::default(), call_ns: 100.0, exits_per_ns: 0.0 }
    }
}

/// Counts for a moment, without times and with all, and asks the kernel's statistics how long its programs ran;
/// where it may not, or where too little happens, it is what an exit costs elsewhere.
pub(super) async fn calibrate(probe: &mut Probe) -> Result<Calibrated, ProbeError> {
    // Off again when this is dropped, unless somebody else has them on: then they are there for whoever asks.
    let stats = enable_stats(Stats::RunTime);
    if let Err(error) = &stats {
        log::debug!("the kernel's statistics can't be switched on: {error}");
    }
    let call = probe.measure_call()?;
    let (begun, before) = (now_ns(), probe.progress()?.events);
    let (mut untimed, mut timed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Where nothing can be learned nobody is kept waiting.
        let Some(untimed_ns) = window(probe, 0, call).await? else { break };
        let Some(timed_ns) = window(probe, u32::MAX, call).await? else { break };
        untimed.push(untimed_ns);
        timed.push(timed_ns);
    }
    let exits = probe.progress()?.events - before;
    let cost = match (median(untimed), median(timed)) {
        (Some(untimed_ns), Some(timed_ns)) => {
            ExitCost { untimed_ns, timed_ns: timed_ns.max(untimed_ns) }
        }
        _ => ExitCost { untimed_ns: UNTIMED_CALLS * call.ns, timed_ns: TIMED_CALLS * call.ns },
    };
    log::debug!("an exit costs {cost:?}, a call {call:?}");
    Ok(Calibrated {
        cost,
        call_ns: call.ns,
        exits_per_ns: exits as f64 / (now_ns() - begun).max(1) as f64,
    })
}

/// What an exit costs with this share of them timed; `None` if there were too few to tell, or no statistics.
async fn window(probe: &mut Probe, share: u32, call: Call) -> Result<Option<f64>, ProbeError> {
    probe.time(share)?;
    let (exits, (time, calls)) = (probe.progress()?.events, probe.run()?);
    sleep(WINDOW).await;
    let (exits_now, (time_now, calls_now)) = (probe.progress()?.events, probe.run()?);
    let (exits, calls) = (exits_now - exits, (calls_now - calls) as f64);
    // Each exit is a call at least, give or take some between two readings; were there fewer, somebody has switched
    // the statistics off.
    if exits < ENOUGH || calls < 0.9 * exits as f64 {
        return Ok(None);
    }
    // In the statistics' time of each call there is what they take themselves.
    let body = (time_now - time).as_nanos() as f64 - calls * call.statistics_ns;
    Ok(Some((body.max(0.0) + calls * call.ns) / exits as f64))
}

/// `None` of none.
fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_interrupted_does_not_count() {
        assert_eq!(median(vec![12_086.0, 1_942.5, 1_910.0]), Some(1_942.5));
        assert_eq!(median(vec![1_910.0]), Some(1_910.0));
        assert_eq!(median(Vec::new()), None);
    }
}
