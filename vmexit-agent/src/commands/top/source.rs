//! Where a live view's intervals come from: VMs that run, or a recording.

use std::time::Duration;

use vmexit_core::{measurement::Measurement, report::Scope};
use vmexit_view::top::{FrameData, State};

use super::{live::LiveSource, replay::ReplaySource};
use crate::error::Error;

/// Either of both.
pub(super) enum FrameSource {
    Live(Box<LiveSource>),
    Replay(Box<ReplaySource>),
}

impl FrameSource {
    /// Waits for the next interval, and shows it.
    pub(super) async fn next(&mut self, state: &mut State) -> Result<(), Error> {
        match self {
            Self::Live(live) => live.next(state).await,
            Self::Replay(replay) => replay.next(state).await,
        }
    }

    /// What is on the screen.
    pub(super) fn frame(&self, scope: Scope, cumulative: bool) -> FrameData {
        match self {
            Self::Live(live) => live.frame(scope, cumulative),
            Self::Replay(replay) => replay.frame(scope, cumulative),
        }
    }

    /// What is on the screen, of all VMs.
    pub(super) fn measurement(&self, cumulative: bool) -> Measurement {
        match self {
            Self::Live(live) => live.measurement(cumulative),
            Self::Replay(replay) => replay.measurement(cumulative).clone(),
        }
    }

    /// An interval on or back, where there are some.
    pub(super) fn step(&mut self, on: bool, state: &mut State) -> Result<(), Error> {
        match self {
            Self::Live(_) => state.say("these keys are for vmexit top --replay".into()),
            Self::Replay(replay) => replay.step(on, state)?,
        }
        Ok(())
    }

    /// The view was paused, or goes on. A replay waits by itself while the view is paused.
    pub(super) fn set_paused(&mut self, paused: bool) {
        if let Self::Live(live) = self {
            live.set_paused(paused);
        }
    }

    pub(super) fn set_period(&mut self, period: Duration) {
        match self {
            Self::Live(live) => live.set_period(period),
            Self::Replay(replay) => replay.set_period(period),
        }
    }

    /// Histograms are wanted that were not read before. Recordings have them all.
    pub(super) fn refresh_with_histograms(&mut self, state: &State) -> Result<(), Error> {
        match self {
            Self::Live(live) => live.refresh_with_histograms(state),
            Self::Replay(_) => Ok(()),
        }
    }

    /// Begins a new baseline.
    pub(super) fn reset(&mut self) -> Result<(), Error> {
        match self {
            Self::Live(live) => live.reset(),
            Self::Replay(replay) => {
                replay.reset();
                Ok(())
            }
        }
    }
}
