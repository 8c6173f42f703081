//! What `vmexit trace` says on standard error: what the lines lack, as soon as that is known, and at the
//! end how it went.

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
};

/// How often it is looked whether there is something to say.
const TICK: Duration = Duration::from_secs(1);

/// Ticks in which events came and no exit did, after which none is expected. One or two prove nothing: a
/// vCPU that is out of the guest as tracing begins has events before its first exit.
const SILENT_TICKS: u32 = 3;

/// A probe, and what has been said of it.
pub(super) struct Remarks {
    probe: Probe,
    /// Exits of which it has been said that they were dropped.
    dropped: u64,
    exits: Exits,
}

/// Whether this host's KVM reports exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exits {
    /// None so far: how many other events have been seen, and in how many ticks.
    Awaited { events: u64, ticks: u32 },
    /// It does.
    Reported,
    /// It does not, and that has been said.
    Silent,
}

impl Remarks {
    pub(super) fn new(probe: Probe) -> Self {
        Self { probe, dropped: 0, exits: Exits::Awaited { events: 0, ticks: 0 } }
    }

    /// What is to be done all the time, also while nobody reads: says what is missing, and lets threads
    /// that have ended give their books back.
    pub(super) async fn tend(&mut self) -> Result<Infallible, Error> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let exits = self.exits.after(&self.probe.progress()?);
            if exits == Exits::Silent && self.exits != Exits::Silent {
                warn_of_silence();
            }
            self.exits = exits;
            let dropped = self.probe.loss()?.slow;
            if dropped > self.dropped {
                let dropped = units::plural(dropped - self.dropped, "exit");
                log::warn!("{dropped} dropped: they come faster than they are read");
            }
            self.dropped = dropped;
        }
    }

    /// How it went: so many exits were shown, and so many taken that nobody read.
    pub(super) fn sum_up(mut self, shown: u64, unread: u64) -> Result<(), Error> {
        let interval = Interval::between(&Snapshot::default(), &self.probe.snapshot(|_| false)?);
        let dropped = match interval.loss.slow + unread {
            0 => "none".into(),
            dropped => units::count(dropped),
        };
        let accounting = report::accounting(&interval);
        eprintln!(
            "vmexit: {} shown, {dropped} dropped; of {} seen, {}",
            units::plural(shown, "exit"),
            units::count(accounting.observed),
            vmexit_view::losses(&accounting),
        );
        if report::source(&interval) == ExitReporting::Silent && self.exits != Exits::Silent {
            warn_of_silence();
        }
        Ok(())
    }
}

impl Exits {
    /// What is known at the next tick.
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

    /// What is known after these ticks, each with its events so far and whether one was an exit.
    fn after(ticks: &[(u64, bool)]) -> Exits {
        let seen =
            ticks.iter().map(|&(events, exits)| Progress { events, exits, ..Progress::default() });
        seen.fold(Exits::Awaited { events: 0, ticks: 0 }, |known, seen| known.after(&seen))
    }

    #[test]
    fn silence_is_events_without_exits_for_a_while() {
        assert_eq!(after(&[(5, false), (6, false)]), Exits::Awaited { events: 6, ticks: 2 });
        assert_eq!(after(&[(5, false), (6, false), (9, false)]), Exits::Silent);
        // An idle host is not a silent one.
        assert_eq!(after(&[(0, false); 9]), Exits::Awaited { events: 0, ticks: 0 });
        assert_eq!(after(&[(5, false); 9]), Exits::Awaited { events: 5, ticks: 1 });
    }

    #[test]
    fn one_exit_is_enough() {
        let late = [(5, false), (6, false), (9, true), (10, true)];
        assert_eq!(after(&late), Exits::Reported);
    }
}
