//! Significance of the difference between two figures.
//!
//! Exits that arrive independently form a Poisson process: the variance of a count n is n; that of
//! a sum of n durations is n times the mean of their squares. Two figures differ if the difference
//! exceeds three standard errors and a tenth of the larger figure. The second condition covers
//! bursts, which one interval can't show: real noise is at least Poisson noise, and often more.

use serde::Serialize;

use super::Side;
use crate::report::{Exit, Stats};

/// Minimum difference in standard errors: chance alone exceeds it once in 370 times.
const ERRORS: f64 = 3.0;
/// Minimum difference as a part of the larger figure.
const FLOOR: f64 = 0.1;

/// A figure before and after.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Change {
    /// Value before.
    pub before: f64,
    /// Value after.
    pub after: f64,
    /// `after` minus `before`: negative for savings.
    pub difference: f64,
    /// Standard error of the difference, if exits arrive independently.
    pub error: f64,
    /// Significance and direction of the difference.
    pub verdict: Verdict,
}

/// Significance and direction of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within what chance alone can cause.
    Noise,
    /// Fell to 0.
    Gone,
    /// Rose from 0.
    New,
    /// Decreased.
    Less,
    /// Increased.
    More,
}

/// A figure and its variance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    value: f64,
    variance: f64,
}

impl Measured {
    /// `count` in the recording's span, per second.
    pub(super) fn rate(count: u64, side: &Side) -> Self {
        let seconds = side.span.seconds;
        if seconds <= 0.0 {
            return Self::default();
        }
        let count = count as f64;
        Self { value: count / seconds, variance: count / seconds.powi(2) }
    }

    /// CPUs kept busy by a row's exits. Without exits 0; `None` if their time is unknown.
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
        // If only some were timed, the mean of all is less certain.
        let squares = average.powi(2) + deviation.powi(2) * samples / timed;
        Some(Self {
            value: stats.total_ns as f64 / 1e9 / seconds,
            variance: samples * squares / seconds.powi(2),
        })
    }

    /// CPUs kept busy by all rows except waiting ones.
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

    /// Sum of changes.
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

    /// Whether the difference is more than noise.
    pub fn is_real(&self) -> bool {
        self.verdict != Verdict::Noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdict on two (count, seconds).
    fn verdict(before: (f64, f64), after: (f64, f64)) -> Verdict {
        let rate = |(count, seconds): (f64, f64)| Measured {
            value: count / seconds,
            variance: count / (seconds * seconds),
        };
        Change::between(rate(before), rate(after)).verdict
    }

    #[test]
    fn change_of_few_events_is_noise() {
        assert_eq!(verdict((8.0, 10.0), (0.0, 10.0)), Verdict::Noise);
        assert_eq!(verdict((10.0, 10.0), (0.0, 10.0)), Verdict::Gone);
        assert_eq!(verdict((0.0, 10.0), (10.0, 10.0)), Verdict::New);
        assert_eq!(verdict((0.0, 10.0), (0.0, 10.0)), Verdict::Noise);
    }

    #[test]
    fn change_compares_rates_instead_of_counts() {
        assert_eq!(verdict((100_000.0, 10.0), (10_000.0, 1.0)), Verdict::Noise);
        assert_eq!(verdict((100_000.0, 10.0), (100_000.0, 100.0)), Verdict::Less);
        assert_eq!(verdict((100_000.0, 100.0), (100_000.0, 10.0)), Verdict::More);
    }

    #[test]
    fn change_below_a_tenth_is_noise() {
        // 100 standard errors, but less than a tenth.
        assert_eq!(verdict((10_000_000.0, 10.0), (9_100_000.0, 10.0)), Verdict::Noise);
        assert_eq!(verdict((10_000_000.0, 10.0), (8_900_000.0, 10.0)), Verdict::Less);
    }
}
