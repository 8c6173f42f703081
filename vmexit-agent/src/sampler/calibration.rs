//! Calibration: the cost of counting and of timing an exit on this machine.

use std::time::Duration;

use aya::sys::{Stats, enable_stats};
use tokio::time::sleep;
use vmexit_core::timing::Timing;

use crate::probe::{CallCost, Probe, ProbeError, now_ns};

/// Length of a measurement.
const WINDOW: Duration = Duration::from_millis(50);
/// Measurements without and with timing. The median counts, as an interrupt within a program adds to its run time.
const ROUNDS: usize = 3;
/// Fewest exits in a measurement.
const MIN_EXITS: u64 = 50;
/// Cost of an exit that is only counted, in calls of an empty program, where it can't be measured. Slightly above the
/// highest cost measured in the labs (IN to QEMU with all events in docs/overhead.md: 5.6).
const UNTIMED_CALLS: f64 = 6.5;
/// Cost of an exit that is timed too, in the same unit (measured: 7.1).
const TIMED_CALLS: f64 = 8.5;

/// CPU time of all programs that run for an exit, on average, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ExitCost {
    /// Cost of an exit that is only counted.
    pub untimed_ns: f64,
    /// Cost of an exit that is counted and timed.
    pub timed_ns: f64,
}

impl ExitCost {
    /// Average cost with this share of the exits timed.
    pub(super) fn of(&self, timing: Timing) -> f64 {
        self.untimed_ns + timing.ratio() * (self.timed_ns - self.untimed_ns)
    }
}

/// Result of the calibration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    /// Cost of an exit.
    pub cost: ExitCost,
    /// Cost of calling an empty program, nanoseconds.
    pub call_ns: f64,
    /// Rate of exits during the calibration, per nanosecond.
    pub exits_per_ns: f64,
}

/// Values without a budget, where nothing is measured.
impl Default for Calibration {
    fn default() -> Self {
        Self { cost: ExitCost::default(), call_ns: 100.0, exits_per_ns: 0.0 }
    }
}

/// Measures the cost of an exit without and with timing, from the kernel's program statistics. Without the statistics,
/// or with too few exits, the cost is [`UNTIMED_CALLS`] and [`TIMED_CALLS`] times that of a call.
///
/// # Errors
/// The probe can't be controlled or read.
pub(super) async fn calibrate(probe: &mut Probe) -> Result<Calibration, ProbeError> {
    // The kernel turns the statistics off when the last user drops them.
    let stats = enable_stats(Stats::RunTime);
    if let Err(error) = &stats {
        log::debug!("the kernel's program statistics can't be turned on: {error}");
    }
    let call = probe.measure_call()?;
    let (begun, before) = (now_ns(), probe.progress()?.events);
    let (mut untimed, mut timed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Without a result in the first round, the others would only delay the start.
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
    log::debug!("calibration: an exit costs {cost:?}, a call {call:?}");
    Ok(Calibration {
        cost,
        call_ns: call.ns,
        exits_per_ns: exits as f64 / (now_ns() - begun).max(1) as f64,
    })
}

/// Cost of an exit with this share timed, nanoseconds; `None` with too few exits or without statistics.
async fn window(probe: &mut Probe, share: u32, call: CallCost) -> Result<Option<f64>, ProbeError> {
    probe.set_timing_share(share)?;
    let (exits, before) = (probe.progress()?.events, probe.run_stats()?);
    sleep(WINDOW).await;
    let (exits_now, after) = (probe.progress()?.events, probe.run_stats()?);
    let (exits, calls) = (exits_now - exits, (after.runs - before.runs) as f64);
    // Each exit is at least one call, but for a few between the two readings. With fewer calls, another process has
    // turned the statistics off.
    if exits < MIN_EXITS || calls < 0.9 * exits as f64 {
        return Ok(None);
    }
    // The run time includes the overhead of the statistics in each call.
    let body = (after.time - before.time).as_nanos() as f64 - calls * call.statistics_ns;
    Ok(Some((body.max(0.0) + calls * call.ns) / exits as f64))
}

/// Median; `None` without values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_ignores_one_interrupted_round() {
        assert_eq!(median(vec![12_086.0, 1_942.5, 1_910.0]), Some(1_942.5));
        assert_eq!(median(vec![1_910.0]), Some(1_910.0));
        assert_eq!(median(Vec::new()), None);
    }
}
