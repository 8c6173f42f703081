//! Messages of `vmexit trace` on standard error: warnings about missing exits, and a summary at the end.

use std::{convert::Infallible, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use vmexit_core::{
    counters::{Interval, Snapshot},
    report::{self, ExitReporting},
    units,
};

use crate::{
    error::Error,
    probe::{Probe, Progress},
    warnings,
};

/// Time between checks.
const TICK: Duration = Duration::from_secs(1);

/// Checks with events but no exit after which KVM counts as silent. One or two are not enough: a vCPU that is outside
/// the guest when tracing begins has events before its first exit.
const SILENT_TICKS: u32 = 3;

/// The probe, and the warnings given.
pub(super) struct TraceStatus {
    probe: Probe,
    /// Dropped exits that a warning was given for.
    dropped: u64,
    exits: ExitsSeen,
}

/// Whether this host's KVM reports exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitsSeen {
    /// No exit so far; number of other events, and of checks with new ones.
    Awaited { events: u64, ticks: u32 },
    /// KVM reports exits.
    Reported,
    /// KVM reports other events only, and the warning was given.
    Silent,
}

impl TraceStatus {
    pub(super) fn new(probe: Probe) -> Self {
        Self { probe, dropped: 0, exits: ExitsSeen::Awaited { events: 0, ticks: 0 } }
    }

    /// Checks the probe every second, also while the output is blocked: warns about missing exits, and frees the stats
    /// blocks of threads that have ended. Returns only errors.
    ///
    /// # Errors
    /// The counters can't be read.
    pub(super) async fn watch(&mut self) -> Result<Infallible, Error> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let exits = self.exits.after(&self.probe.progress()?);
            if exits == ExitsSeen::Silent && self.exits != ExitsSeen::Silent {
                warn_of_silence();
            }
            self.exits = exits;
            let dropped = self.probe.loss()?.slow;
            if dropped > self.dropped {
                let dropped = units::plural(dropped - self.dropped, "exit");
                log::warn!("{dropped} dropped: exits come faster than they can be written");
            }
            self.dropped = dropped;
        }
    }

    /// Prints the summary. `unread` are exits taken from the ring buffer that could not be written.
    ///
    /// # Errors
    /// The counters can't be read.
    pub(super) fn print_summary(mut self, shown: u64, unread: u64) -> Result<(), Error> {
        let interval = Interval::between(&Snapshot::default(), &self.probe.snapshot(|_| false)?);
        let dropped = match interval.loss.slow + unread {
            0 => "none".into(),
            dropped => units::count(dropped),
        };
        let accounting = report::accounting(&interval);
        warnings::say(format_args!(
            "{} shown, {dropped} dropped; of {} seen, {}",
            units::plural(shown, "exit"),
            units::count(accounting.observed),
            vmexit_view::losses(&accounting),
        ));
        if report::exit_reporting(&interval) == ExitReporting::Silent
            && self.exits != ExitsSeen::Silent
        {
            warn_of_silence();
        }
        Ok(())
    }
}

impl ExitsSeen {
    /// State after the next check.
    fn after(self, seen: &Progress) -> Self {
        match self {
            _ if seen.exits => Self::Reported,
            Self::Awaited { events, ticks } if seen.events > events => match ticks + 1 {
                SILENT_TICKS => Self::Silent,
                ticks => Self::Awaited { events: seen.events, ticks },
            },
            same => same,
        }
    }
}

fn warn_of_silence() {
    log::warn!(
        "this host's KVM never emitted kvm_exit, while other KVM events fired: no exit can be timed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// State after checks, each with the events so far and whether one was an exit.
    fn after(ticks: &[(u64, bool)]) -> ExitsSeen {
        let seen =
            ticks.iter().map(|&(events, exits)| Progress { events, exits, ..Progress::default() });
        seen.fold(ExitsSeen::Awaited { events: 0, ticks: 0 }, |known, seen| known.after(&seen))
    }

    #[test]
    fn exits_are_silent_after_three_checks_with_events_only() {
        assert_eq!(after(&[(5, false), (6, false)]), ExitsSeen::Awaited { events: 6, ticks: 2 });
        assert_eq!(after(&[(5, false), (6, false), (9, false)]), ExitsSeen::Silent);
        // Without new events, KVM may just be idle.
        assert_eq!(after(&[(0, false); 9]), ExitsSeen::Awaited { events: 0, ticks: 0 });
        assert_eq!(after(&[(5, false); 9]), ExitsSeen::Awaited { events: 5, ticks: 1 });
    }

    #[test]
    fn exits_are_reported_after_one_exit() {
        let late = [(5, false), (6, false), (9, true), (10, true)];
        assert_eq!(after(&late), ExitsSeen::Reported);
    }
}
