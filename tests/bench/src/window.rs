//! One measurement: what KVM and the guest counted between two readings of the clock.

use std::{fs, io, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Counters that go on whoever watches.
pub(crate) struct Counts {
    exits: Option<u64>,
    dots: Option<u64>,
}

/// A measurement under way.
pub(crate) struct Start {
    counts: Counts,
    clock: Instant,
}

/// A measurement whose time is over.
pub(crate) struct End {
    start: Counts,
    seconds: f64,
}

/// A measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Window {
    seconds: f64,
    exits: Option<u64>,
    dots: Option<u64>,
    ns_per_exit: Option<f64>,
}

impl Counts {
    /// KVM's exits, and the dots in a guest's output.
    pub(crate) fn read(exits: &Path, serial: Option<&Path>) -> Result<Self> {
        let exits = match fs::read_to_string(exits) {
            Ok(text) => Some(text.trim().parse().context("KVM's exits are no number")?),
            // No debugfs, or no KVM with exits.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", exits.display()));
            }
        };
        let dots = match serial {
            Some(path) => {
                let text =
                    fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
                Some(text.iter().filter(|&&byte| byte == b'.').count() as u64)
            }
            None => None,
        };
        Ok(Self { exits, dots })
    }

    /// Exits since an earlier reading.
    pub(crate) fn exits_since(&self, start: &Self) -> Option<u64> {
        Some(self.exits?.saturating_sub(start.exits?))
    }

    /// Starts the clock.
    pub(crate) fn at_start(self) -> Start {
        Start { counts: self, clock: Instant::now() }
    }
}

impl Start {
    /// Stops the clock.
    pub(crate) fn at_end(self) -> End {
        End { seconds: self.clock.elapsed().as_secs_f64(), start: self.counts }
    }
}

impl End {
    /// The measurement, with what was read after its end.
    pub(crate) fn with(self, end: Counts) -> Window {
        let exits = end.exits_since(&self.start);
        let dots = end.dots.zip(self.start.dots).map(|(end, start)| end.saturating_sub(start));
        let ns_per_exit =
            exits.filter(|&exits| exits > 0).map(|exits| self.seconds * 1e9 / exits as f64);
        Window { seconds: self.seconds, exits, dots, ns_per_exit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(exits: u64, dots: u64) -> Counts {
        Counts { exits: Some(exits), dots: Some(dots) }
    }

    #[test]
    fn nanoseconds_are_those_from_exit_to_exit() {
        let end = End { start: counts(1_000, 5), seconds: 2.0 };
        let window = end.with(counts(41_000, 45));
        assert_eq!((window.exits, window.dots), (Some(40_000), Some(40)));
        assert_eq!(window.ns_per_exit, Some(50_000.0));
    }

    #[test]
    fn without_exits_there_is_no_time_from_exit_to_exit() {
        let end = End { start: counts(7, 0), seconds: 1.0 };
        assert_eq!(end.with(counts(7, 0)).ns_per_exit, None);
        let unknown = Counts { exits: None, dots: None };
        let end = End { start: unknown, seconds: 1.0 };
        assert_eq!(end.with(counts(7, 0)).exits, None);
    }

    #[test]
    fn counters_are_read_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let (exits, serial) = (dir.path().join("exits"), dir.path().join("serial"));
        fs::write(&serial, "..-.\n").unwrap();
        let counts = Counts::read(&exits, Some(&serial)).unwrap();
        assert_eq!((counts.exits, counts.dots), (None, Some(3)));
        fs::write(&exits, "42\n").unwrap();
        assert_eq!(Counts::read(&exits, None).unwrap().exits, Some(42));
        fs::write(&exits, "?").unwrap();
        assert!(Counts::read(&exits, None).is_err());
    }
}
