//! VMs that run: a probe, and what was read of it.

use std::time::Duration;

use super::{
    super::{args::CountArgs, error::Error, guests::Guests, live::Live, warnings},
    looks::Looks,
};
use crate::{
    model::Layout,
    probe::Probe,
    recording::Recording,
    view::{
        self,
        top::{Look, State},
    },
};

/// All that it takes to look at them.
pub(super) struct Watched {
    probe: Probe,
    live: Live,
    looks: Looks,
    /// What was read when the view was paused.
    frozen: Option<Looks>,
}

impl Watched {
    pub(super) async fn start(args: &CountArgs, interval: Duration) -> Result<Self, Error> {
        let (mut probe, live) = Live::start(args, interval, Guests::find_or_wait).await?;
        let looks = Looks::start(&mut probe)?;
        Ok(Self { probe, live, looks, frozen: None })
    }

    /// The VM to be opened at once, by process id: the only one that was asked for.
    pub(super) fn only(&self) -> Option<u32> {
        let asked_for = self.live.guests.filter.as_ref()?;
        asked_for.first().copied().filter(|_| asked_for.len() == 1)
    }

    pub(super) fn words(&self, layout: Layout, cumulative: bool) -> Look {
        self.shown().words(&self.live, layout, cumulative)
    }

    /// Reads the counters, and shows what has been since the last time, unless the view is paused.
    pub(super) async fn look(&mut self, state: &mut State) -> Result<(), Error> {
        self.looks.look(&mut self.probe, &mut self.live, state)?;
        self.live.maps.collect().await;
        if self.frozen.is_none() {
            let look = self.words(state.layout(), state.is_cumulative());
            self.live.renew(&look.interval);
            state.update(look);
        }
        if let Some(warning) = warnings::latest() {
            state.say(view::safe(&warning));
        }
        Ok(())
    }

    pub(super) fn look_closer(&mut self, state: &State) -> Result<(), Error> {
        self.looks.look_closer(&mut self.probe, state)
    }

    pub(super) fn reset(&mut self) -> Result<(), Error> {
        self.frozen = None;
        self.looks.reset(&mut self.probe)
    }

    pub(super) fn freeze(&mut self, paused: bool) {
        if !paused {
            self.frozen = None;
        } else if self.frozen.is_none() {
            self.frozen = Some(self.looks.clone());
        }
    }

    pub(super) fn recording(&self, cumulative: bool) -> Recording {
        self.shown().recording(&self.live, cumulative)
    }

    pub(super) async fn due(&self) {
        self.live.due().await;
    }

    pub(super) fn turn(&mut self) -> Result<(), Error> {
        self.live.turn(&mut self.probe)
    }

    fn shown(&self) -> &Looks {
        self.frozen.as_ref().unwrap_or(&self.looks)
    }
}
