//! Where a live view's intervals come from: VMs that run, or what was recorded of some.

use super::{super::error::Error, live::Watched, replay::Replay};
use crate::{
    model::Layout,
    recording::Recording,
    view::top::{Look, State},
};

/// One of both.
pub(super) enum Scene {
    Watched(Box<Watched>),
    Replay(Box<Replay>),
}

impl Scene {
    /// What there is at first: nothing, in the case of VMs that run.
    pub(super) fn words(&self, layout: Layout, cumulative: bool) -> Look {
        match self {
            Self::Watched(watched) => watched.words(layout, cumulative),
            Self::Replay(replay) => replay.words(layout, cumulative),
        }
    }

    /// The next interval, if it is time for it.
    pub(super) async fn look(&mut self, state: &mut State) -> Result<(), Error> {
        match self {
            Self::Watched(watched) => watched.look(state).await,
            Self::Replay(replay) => {
                if !state.is_paused() {
                    replay.step(true, state)?;
                }
                Ok(())
            }
        }
    }

    /// An interval on or back, where there are some.
    pub(super) fn step(&mut self, on: bool, state: &mut State) -> Result<(), Error> {
        match self {
            Self::Watched(_) => state.say("these keys are for vmexit top --replay".into()),
            Self::Replay(replay) => replay.step(on, state)?,
        }
        Ok(())
    }

    /// The view was paused, or goes on.
    pub(super) fn freeze(&mut self, paused: bool) {
        if let Self::Watched(watched) = self {
            watched.freeze(paused);
        }
    }

    /// Durations are wanted that were not read before.
    pub(super) fn look_closer(&mut self, state: &State) -> Result<(), Error> {
        match self {
            Self::Watched(watched) => watched.look_closer(state),
            Self::Replay(_) => Ok(()),
        }
    }

    /// Counts from now on.
    pub(super) fn reset(&mut self) -> Result<(), Error> {
        match self {
            Self::Watched(watched) => watched.reset(),
            Self::Replay(replay) => {
                replay.reset();
                Ok(())
            }
        }
    }

    /// What is shown, of all VMs.
    pub(super) fn recording(&self, cumulative: bool) -> Recording {
        match self {
            Self::Watched(watched) => watched.recording(cumulative),
            Self::Replay(replay) => replay.recording(cumulative).clone(),
        }
    }

    /// Waits until there is something to do between two looks.
    pub(super) async fn due(&self) {
        match self {
            Self::Watched(watched) => watched.due().await,
            Self::Replay(_) => std::future::pending().await,
        }
    }

    /// Does it.
    pub(super) fn turn(&mut self) -> Result<(), Error> {
        match self {
            Self::Watched(watched) => watched.turn(),
            Self::Replay(_) => Ok(()),
        }
    }
}
