//! Whether two figures differ by more than chance.
//!
//! Exits that come independently of each other are a Poisson process: of a count n the variance is n, and
//! of a sum of n durations it is n times the mean of their squares. Two figures differ if they are further
//! apart than three standard errors of the difference, and than a tenth of the larger: guests do their
//! work in bursts, which one interval can't show, so that noise is never less than the first, and
//! often more.

use serde::Serialize;

use super::Side;
use crate::report::{Exit, Stats};

/// Standard errors that two figures must be apart: chance alone does that one time in 370.
const ERRORS: f64 = 3.0;
/// The part of the larger figure that they must be apart.
const FLOOR: f64 = 0.1;

/// A figure before and after.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Change {
    /// Before.
    pub before: f64,
    /// After.
    pub after: f64,
    /// After less before: negative for what was saved.
    pub difference: f64,
    /// Its standard error, if exits come independently of each other.
    pub error: f64,
    /// What that means.
    pub verdict: Verdict,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: chance alone could have done it.
    Noise,
    /// It went away.
    Gone,
    /// It came.
    New,
    /// It became less.
    Less,
    /// It became more.
    More,
}

/// A figure with its variance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    value: f64,
    variance: f64,
}

impl Measured {
    /// So many in the span of a recording, per second.
    pub(super) fn rate(count: u64, side: &Side) -> Self {
        let seconds = side.span.seconds;
        if seconds <= 0.0 {
            return Self::default();
        }
        let count = count as f64;
        Self { value: count / seconds, variance: count / seconds.powi(2) }
    }

    /// The CPUs that a row's exits kept busy; `None` if their time is not known, and 0 if there are none.
    pub(super) fn cores(stats: Option<&Stats>, side: &Side) -> Option<Self> {
        let seconds = side.span.seconds;
        let Some(stats) = stats.filter(|stats| stats.samples > 0) else {
            return side.times.then(Self::default);
        };
        if !side.times || stats.timed == 0 || seconds <= 0.0 {
            return None;
        }
        let (samples, timed) = (stats.samples as f64, stats.timed as f64);
        let ns = |ns: Option<u64>| ns.unwrap_or(0) as f64 / 1e9;
        let (average, deviation) = (ns(stats.avg_ns), ns(stats.stddev_ns));
        // Where only some were timed, the mean of all is less certain.
        let squares = average.powi(2) + deviation.powi(2) * samples / timed;
        Some(Self {
            value: stats.total_ns as f64 / 1e9 / seconds,
            variance: samples * squares / seconds.powi(2),
        })
    }

    /// The CPUs that all of these kept busy, without those that wait.
    pub(super) fn cores_of(exits: &[Exit], side: &Side) -> Option<Self> {
        let rows = exits.iter().filter(|exit| !exit.waits);
        let none = Self::cores(None, side)?;
        rows.map(|exit| Self::cores(Some(&exit.stats), side)).try_fold(none, |sum, row| {
            let row = row?;
            Some(Self { value: sum.value + row.value, variance: sum.variance + row.variance })
        })
    }
}

impl Change {
    pub(super) fn between(before: Measured, after: Measured) -> Self {
        Self::of(before.value, after.value, (before.variance + after.variance).sqrt())
    }

    /// Of all of these together.
    pub(super) fn sum<'a>(changes: impl Iterator<Item = &'a Self>) -> Self {
        let (mut before, mut after, mut variance) = (0.0, 0.0, 0.0);
        for change in changes {
            before += change.before;
            after += change.after;
            variance += change.error.powi(2);
        }
        Self::of(before, after, variance.sqrt())
    }

    fn of(before: f64, after: f64, error: f64) -> Self {
        let difference = after - before;
        let noise = (ERRORS * error).max(FLOOR * before.max(after));
        let verdict = match () {
            () if difference.abs() <= noise => Verdict::Noise,
            () if after == 0.0 => Verdict::Gone,
            () if before == 0.0 => Verdict::New,
            () if difference < 0.0 => Verdict::Less,
            () => Verdict::More,
        };
        Self { before, after, difference, error, verdict }
    }

    /// Whether it is more than noise.
    pub fn is_real(&self) -> bool {
        self.verdict != Verdict::Noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts in so many seconds.
    fn verdict(before: (f64, f64), after: (f64, f64)) -> Verdict {
        let rate = |(count, seconds): (f64, f64)| Measured {
            value: count / seconds,
            variance: count / (seconds * seconds),
        };
        Change::between(rate(before), rate(after)).verdict
    }

    #[test]
    fn a_handful_proves_nothing() {
        assert_eq!(verdict((8.0, 10.0), (0.0, 10.0)), Verdict::Noise);
        assert_eq!(verdict((10.0, 10.0), (0.0, 10.0)), Verdict::Gone);
        assert_eq!(verdict((0.0, 10.0), (10.0, 10.0)), Verdict::New);
        assert_eq!(verdict((0.0, 10.0), (0.0, 10.0)), Verdict::Noise);
    }

    #[test]
    fn rates_are_compared_and_not_counts() {
        assert_eq!(verdict((100_000.0, 10.0), (10_000.0, 1.0)), Verdict::Noise);
        assert_eq!(verdict((100_000.0, 10.0), (100_000.0, 100.0)), Verdict::Less);
        assert_eq!(verdict((100_000.0, 100.0), (100_000.0, 10.0)), Verdict::More);
    }

    #[test]
    fn what_bursts_could_do_is_no_difference() {
        // A hundred standard errors, but not a tenth.
        assert_eq!(verdict((10_000_000.0, 10.0), (9_100_000.0, 10.0)), Verdict::Noise);
        assert_eq!(verdict((10_000_000.0, 10.0), (8_900_000.0, 10.0)), Verdict::Less);
    }
}
