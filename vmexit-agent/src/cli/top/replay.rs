//! What was recorded, interval by interval.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    time::{Duration, SystemTime},
};

use super::super::{args::ReplayArgs, error::Error, guests, report};
use crate::{
    model::Layout,
    probe::Event,
    recording::{Recording, Sum},
    view::top::{Look, State},
};

/// Intervals that one can go back.
const KEPT: usize = 100;

/// A recording that is gone through.
pub(super) struct Replay {
    rest: Intervals,
    /// The last intervals, oldest first, and which of them is shown.
    kept: VecDeque<Recording>,
    shown: usize,
    /// All since the baseline, until the last of these.
    sum: Sum,
}

/// The intervals of a recording or a directory of them.
pub(super) struct Intervals {
    found: Box<dyn Iterator<Item = Result<Recording, Error>>>,
    vms: Vec<String>,
    events: Vec<Event>,
}

impl Intervals {
    pub(super) fn open(
        path: &Path,
        args: &ReplayArgs,
        vms: &[String],
        events: &[Event],
    ) -> Result<Self, Error> {
        let found = Box::new(report::recordings(path, args.period.period())?);
        Ok(Self { found, vms: vms.to_vec(), events: events.to_vec() })
    }
}

impl Iterator for Intervals {
    type Item = Result<Recording, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.found.next()?;
        Some(next.and_then(|mut recording| {
            if !self.vms.is_empty() {
                // In some intervals there may be none of them.
                recording.keep_vms(&guests::meant(&recording, &self.vms));
            }
            if self.events.len() < Event::ALL.len() {
                report::keep(&mut recording, &[], &self.events)?;
            }
            Ok(recording)
        }))
    }
}

impl Replay {
    /// Shows the first interval.
    pub(super) fn start(mut rest: Intervals, path: &Path) -> Result<Self, Error> {
        let first = rest.next().unwrap_or_else(|| Err(Error::NothingThen(path.into())))?;
        let mut sum = Sum::default();
        sum.add(first.clone()).map_err(Error::Long)?;
        Ok(Self { rest, kept: [first].into(), shown: 0, sum })
    }

    /// Shows the next interval, or the one before.
    pub(super) fn step(&mut self, on: bool, state: &mut State) -> Result<(), Error> {
        let said = match on {
            false if self.shown == 0 => Some("no interval before this one is kept"),
            false => {
                self.shown -= 1;
                None
            }
            true if self.shown + 1 < self.kept.len() => {
                self.shown += 1;
                None
            }
            true => match self.rest.next().transpose()? {
                Some(next) => {
                    self.sum.add(next.clone()).map_err(Error::Long)?;
                    self.kept.push_back(next);
                    if self.kept.len() > KEPT {
                        self.kept.pop_front();
                    }
                    self.shown = self.kept.len() - 1;
                    None
                }
                None => Some("that was the last interval"),
            },
        };
        match said {
            Some(said) => state.say(said.into()),
            None => state.update(self.words(state.layout(), state.is_cumulative())),
        }
        Ok(())
    }

    /// Sums up from the next interval on.
    pub(super) fn reset(&mut self) {
        self.sum = Sum::default();
    }

    pub(super) fn words(&self, layout: Layout, cumulative: bool) -> Look {
        let interval = self.recording(false);
        Look {
            time: end(interval),
            interval: interval.report(layout),
            cumulative: cumulative.then(|| self.recording(true).report(layout)),
            ended: BTreeSet::new(),
        }
    }

    pub(super) fn recording(&self, cumulative: bool) -> &Recording {
        let interval = &self.kept[self.shown];
        if cumulative { self.sum.get().unwrap_or(interval) } else { interval }
    }
}

fn end(recording: &Recording) -> SystemTime {
    let length = Duration::from_nanos(recording.interval.length_ns());
    recording.start.and_then(|start| start.checked_add(length)).unwrap_or(SystemTime::UNIX_EPOCH)
}
