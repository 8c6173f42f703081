//! Source of the intervals of a live view: running VMs or a recording.

use std::time::Duration;

use vmexit_core::{measurement::Measurement, report::Scope};
use vmexit_view::top::{FrameData, State};

use super::{live::LiveSource, replay::ReplaySource};
use crate::error::Error;

/// Source of frames.
pub(super) enum FrameSource {
    /// Running VMs.
    Live(Box<LiveSource>),
    /// A recording.
    Replay(Box<ReplaySource>),
}

impl FrameSource {
    /// Waits for the next interval and shows it.
    ///
    /// # Errors
    /// Counters or the recording can't be read.
    pub(super) async fn next(&mut self, state: &mut State) -> Result<(), Error> {
        match self {
            Self::Live(live) => live.next(state).await,
            Self::Replay(replay) => replay.next(state).await,
        }
    }

    /// Data of the interval on the screen.
    pub(super) fn frame(&self, scope: Scope, cumulative: bool) -> FrameData {
        match self {
            Self::Live(live) => live.frame(scope, cumulative),
            Self::Replay(replay) => replay.frame(scope, cumulative),
        }
    }

    /// Measurement of the interval on the screen, or since the baseline, with all VMs.
    pub(super) fn measurement(&self, cumulative: bool) -> Measurement {
        match self {
            Self::Live(live) => live.measurement(cumulative),
            Self::Replay(replay) => replay.measurement(cumulative).clone(),
        }
    }

    /// Shows the next or the previous interval of a recording.
    ///
    /// # Errors
    /// The recording can't be read.
    pub(super) fn step(&mut self, on: bool, state: &mut State) -> Result<(), Error> {
        match self {
            Self::Live(_) => state.say("these keys only work in vmexit top --replay".into()),
            Self::Replay(replay) => replay.step(on, state)?,
        }
        Ok(())
    }

    /// Pauses or continues the view. A replay checks the state of the view itself.
    pub(super) fn set_paused(&mut self, paused: bool) {
        if let Self::Live(live) = self {
            live.set_paused(paused);
        }
    }

    /// Sets the time between intervals.
    pub(super) fn set_period(&mut self, period: Duration) {
        match self {
            Self::Live(live) => live.set_period(period),
            Self::Replay(replay) => replay.set_period(period),
        }
    }

    /// Reads the histograms of the open VM. Recordings have them already.
    ///
    /// # Errors
    /// Counters can't be read.
    pub(super) fn refresh_with_histograms(&mut self, state: &State) -> Result<(), Error> {
        match self {
            Self::Live(live) => live.refresh_with_histograms(state),
            Self::Replay(_) => Ok(()),
        }
    }

    /// Begins a new baseline.
    ///
    /// # Errors
    /// Counters can't be read.
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
