//! A measurement: the counts of KVM and the guest between two readings of the clock.

use std::{fs, io, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use vmexit_tests::guest::GuestClock;

/// Reading of the counters of KVM and the guest, which do not depend on the observer.
pub(crate) struct CounterReading {
    exits: Option<u64>,
    /// Output of the guest.
    serial: Option<Vec<u8>>,
}

/// A measurement that has started.
pub(crate) struct StartedWindow {
    counts: CounterReading,
    clock: Instant,
}

/// A measurement that has stopped, without the final counts.
pub(crate) struct StoppedWindow {
    start: CounterReading,
    seconds: f64,
}

/// A complete measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Window {
    seconds: f64,
    exits: Option<u64>,
    dots: Option<u64>,
    ns_per_exit: Option<f64>,
    smallest_cycles: Cycles,
}

/// Smallest numbers of TSC cycles printed by a guest with a clock.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Cycles {
    pm_timer_in: Option<u32>,
    cpuid: Option<u32>,
}

impl CounterReading {
    /// Reads KVM's counter, if it is there, and the guest's output, if it has a file.
    ///
    /// # Errors
    ///
    /// When a file can't be read.
    pub(crate) fn read(exits: &Path, serial: Option<&Path>) -> Result<Self> {
        let exits = match fs::read_to_string(exits) {
            Ok(text) => Some(text.trim().parse().context("KVM's exits are no number")?),
            // No debugfs, or a KVM without exits.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", exits.display()));
            }
        };
        let read = |path: &Path| {
            fs::read(path).with_context(|| format!("{} can't be read", path.display()))
        };
        let serial = serial.map(read).transpose()?;
        Ok(Self { exits, serial })
    }

    /// Number of exits since an earlier reading.
    pub(crate) fn exits_since(&self, start: &Self) -> Option<u64> {
        Some(self.exits?.saturating_sub(start.exits?))
    }

    /// Output of the guest since an earlier reading.
    fn printed_since(&self, start: &Self) -> Option<&[u8]> {
        self.serial.as_ref()?.get(start.serial.as_ref()?.len()..)
    }

    /// Starts the clock.
    pub(crate) fn at_start(self) -> StartedWindow {
        StartedWindow { counts: self, clock: Instant::now() }
    }
}

impl StartedWindow {
    /// Stops the clock.
    pub(crate) fn at_end(self) -> StoppedWindow {
        StoppedWindow { seconds: self.clock.elapsed().as_secs_f64(), start: self.counts }
    }
}

impl StoppedWindow {
    /// The complete measurement, from the reading after its end.
    pub(crate) fn with(self, end: CounterReading) -> Window {
        let exits = end.exits_since(&self.start);
        let printed = end.printed_since(&self.start);
        let dots = printed.map(|text| text.iter().filter(|&&byte| byte == b'.').count() as u64);
        let GuestClock { pm_timer_in, cpuid } = printed.map(GuestClock::of).unwrap_or_default();
        let smallest_cycles = Cycles { pm_timer_in, cpuid };
        let ns_per_exit =
            exits.filter(|&exits| exits > 0).map(|exits| self.seconds * 1e9 / exits as f64);
        Window { seconds: self.seconds, exits, dots, ns_per_exit, smallest_cycles }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(exits: u64, serial: &str) -> CounterReading {
        CounterReading { exits: Some(exits), serial: Some(serial.into()) }
    }

    #[test]
    fn window_ns_per_exit_is_time_from_exit_to_exit() {
        let end = StoppedWindow { start: counts(1_000, ".."), seconds: 2.0 };
        let window = end.with(counts(41_000, "..-.-."));
        assert_eq!((window.exits, window.dots), (Some(40_000), Some(2)));
        assert_eq!(window.ns_per_exit, Some(50_000.0));
    }

    #[test]
    fn window_without_exits_has_no_ns_per_exit() {
        let end = StoppedWindow { start: counts(7, ""), seconds: 1.0 };
        assert_eq!(end.with(counts(7, "")).ns_per_exit, None);
        let unknown = CounterReading { exits: None, serial: None };
        let end = StoppedWindow { start: unknown, seconds: 1.0 };
        let window = end.with(counts(7, "."));
        assert_eq!((window.exits, window.dots), (None, None));
    }

    #[test]
    fn window_cycles_are_those_of_rounds_within() {
        let before = ".p00000001c00000001\n.p00000002c0000";
        let within = "0002\n.p00000020c00000041\n.p00000021c00000040\n";
        let after = ".p00000003c0000000";
        let end = StoppedWindow { start: counts(0, before), seconds: 1.0 };
        let window = end.with(counts(1, &format!("{before}{within}{after}")));
        assert_eq!(window.smallest_cycles, Cycles { pm_timer_in: Some(0x20), cpuid: Some(0x40) });
        assert_eq!(window.dots, Some(3));
        // A guest that prints no figures has none.
        let end = StoppedWindow { start: counts(0, "."), seconds: 1.0 };
        assert_eq!(end.with(counts(1, "...\n.\n")).smallest_cycles, Cycles::default());
    }

    #[test]
    fn window_counters_are_read_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let (exits, serial) = (dir.path().join("exits"), dir.path().join("serial"));
        fs::write(&serial, "..-.\n").unwrap();
        let counts = CounterReading::read(&exits, Some(&serial)).unwrap();
        assert_eq!((counts.exits, counts.serial), (None, Some(b"..-.\n".to_vec())));
        fs::write(&exits, "42\n").unwrap();
        assert_eq!(CounterReading::read(&exits, None).unwrap().exits, Some(42));
        fs::write(&exits, "?").unwrap();
        assert!(CounterReading::read(&exits, None).is_err());
    }
}
