//! `vmexit top`: the live view. The loop that reads, shows and listens; what is shown is the view's.

mod batch;
mod looks;

use std::{
    collections::BTreeSet,
    env,
    future::ready,
    io::{IsTerminal as _, stdout},
    time::SystemTime,
};

use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use self::looks::Looks;
use super::{
    args::{TopArgs, Written},
    config::Config,
    error::Error,
    guests::Guests,
    live::Live,
    output::Output,
    report,
    screen::Screen,
    stop::Stop,
    warnings,
};
use crate::{
    model::Layout,
    probe::Probe,
    view::{
        self,
        top::{Effect, Settings, State, Theme, draw},
    },
};

pub(super) async fn run(args: TopArgs) -> Result<(), Error> {
    let config = Config::load(args.config.as_deref())?;
    if args.batch || !stdout().is_terminal() {
        return batch::run(&args, &config).await;
    }
    let signals = Signals::new()?;
    let (mut probe, live) =
        Live::start(&args.count, args.interval.unwrap_or(config.interval), Guests::find_or_wait)
            .await?;
    let looks = Looks::start(&mut probe)?;
    let only = |pids: &BTreeSet<u32>| pids.first().copied().filter(|_| pids.len() == 1);
    let settings = Settings {
        interval: args.interval.unwrap_or(config.interval),
        sort: args.sort.unwrap_or(config.sort),
        by: args.by,
        open: live.guests.filter.as_ref().and_then(only),
        columns: config.columns,
    };
    let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let theme = if no_colour { config.theme.without_colours() } else { config.theme };
    let first = looks.words(&live, Layout::default(), false);
    let screen = Screen::open(config.mouse).map_err(Error::Screen)?;
    let state = State::new(settings, first, Screen::size().map_err(Error::Screen)?);
    let tick = ticks(&state);
    let mut top = Top { probe, live, looks, frozen: None, state, screen, theme, tick, signals };
    top.run(args.frames.unwrap_or(u64::MAX)).await
}

/// The live view and all that it takes.
struct Top {
    probe: Probe,
    live: Live,
    looks: Looks,
    /// What was read when the view was paused.
    frozen: Option<Looks>,
    state: State,
    screen: Screen,
    theme: Theme,
    tick: Interval,
    signals: Signals,
}

impl Top {
    /// Shows so many intervals, until somebody has seen enough.
    async fn run(&mut self, mut frames: u64) -> Result<(), Error> {
        let mut events = EventStream::new();
        let mut drawn = false;
        while frames > 0 {
            let effect = tokio::select! {
                biased;
                asked = self.signals.next() => match asked {
                    Asked::Stop => Effect::Quit,
                    Asked::Suspend => {
                        self.screen.suspend(false).map_err(Error::Screen)?;
                        Effect::None
                    }
                    // Whoever had the terminal meanwhile may have changed it.
                    Asked::GoOn => Effect::Redraw,
                },
                event = events.next() => match event {
                    Some(event) => self.state.handle(&event.map_err(Error::Screen)?),
                    None => Effect::Quit,
                },
                () = self.live.due() => {
                    self.live.turn(&mut self.probe)?;
                    continue;
                }
                _ = self.tick.tick() => {
                    self.look().await?;
                    frames -= 1;
                    Effect::None
                }
                // Last: what comes at once is shown in one frame.
                () = ready(()), if !drawn => {
                    self.draw()?;
                    drawn = true;
                    continue;
                }
            };
            drawn = false;
            if self.carry_out(effect).await? {
                break;
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> Result<(), Error> {
        self.screen.draw(|frame| draw(frame, &self.state, &self.theme)).map_err(Error::Screen)
    }

    /// Reads the counters, and shows what has been since the last time, unless the view is paused.
    async fn look(&mut self) -> Result<(), Error> {
        self.looks.look(&mut self.probe, &mut self.live, &self.state)?;
        self.live.maps.collect().await;
        if self.frozen.is_none() {
            let look =
                self.looks.words(&self.live, self.state.layout(), self.state.is_cumulative());
            self.live.renew(&look.interval);
            self.state.update(look);
        }
        if let Some(warning) = warnings::latest() {
            self.state.say(view::safe(&warning));
        }
        Ok(())
    }

    /// Does what an action takes; says whether it is over.
    async fn carry_out(&mut self, effect: Effect) -> Result<bool, Error> {
        match effect {
            Effect::None => {}
            Effect::Show => {
                if !self.state.is_paused() {
                    self.frozen = None;
                } else if self.frozen.is_none() {
                    self.frozen = Some(self.looks.clone());
                }
                self.show();
            }
            Effect::Look => {
                self.looks.look_closer(&mut self.probe, &self.state)?;
                self.tick.reset();
                self.show();
            }
            Effect::Reset => {
                self.looks.reset(&mut self.probe)?;
                self.frozen = None;
                self.tick.reset();
                self.show();
            }
            Effect::Interval => self.tick = ticks(&self.state),
            Effect::Save => {
                let said = match self.save().await {
                    Ok(path) => format!("written: vmexit report {path} shows it"),
                    Err(error) => error.to_string(),
                };
                self.state.say(said);
            }
            Effect::Suspend => {
                self.signals.own += 1;
                self.screen.suspend(true).map_err(Error::Screen)?;
            }
            Effect::Redraw => self.screen.take().map_err(Error::Screen)?,
            Effect::Quit => return Ok(true),
        }
        Ok(false)
    }

    /// Shows what was read in the layout that is wanted now.
    fn show(&mut self) {
        let look = self.shown().words(&self.live, self.state.layout(), self.state.is_cumulative());
        self.state.refresh(look);
    }

    fn shown(&self) -> &Looks {
        self.frozen.as_ref().unwrap_or(&self.looks)
    }

    /// Writes a recording of what is shown, of all VMs, into the working directory; the file's name.
    async fn save(&self) -> Result<String, Error> {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let path = format!("{}.vmexit", time.replace([':', '-'], ""));
        let recording = self.shown().recording(&self.live, self.state.is_cumulative());
        let output = Output::open(Some(path.as_ref())).await?;
        output.write(report::written(&recording, Written::Recording, Layout::default())?).await?;
        Ok(path)
    }
}

/// From one reading to the next; the first comes after one interval.
fn ticks(state: &State) -> Interval {
    let mut tick = interval(state.interval());
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick.reset();
    tick
}

/// What a signal asks for.
enum Asked {
    Stop,
    Suspend,
    GoOn,
}

/// The signals that concern a terminal.
struct Signals {
    stop: Stop,
    hangup: Signal,
    suspend: Signal,
    go_on: Signal,
    /// Those to suspend that are still to come from ourselves: a key suspends our whole group.
    own: u32,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signal);
        Ok(Self {
            stop: Stop::new()?,
            hangup: listen(SignalKind::hangup())?,
            suspend: listen(SignalKind::from_raw(libc::SIGTSTP))?,
            go_on: listen(SignalKind::from_raw(libc::SIGCONT))?,
            own: 0,
        })
    }

    async fn next(&mut self) -> Asked {
        loop {
            tokio::select! {
                biased;
                () = self.stop.asked() => return Asked::Stop,
                _ = self.hangup.recv() => return Asked::Stop,
                _ = self.suspend.recv() => match self.own.checked_sub(1) {
                    Some(own) => self.own = own,
                    None => return Asked::Suspend,
                },
                _ = self.go_on.recv() => return Asked::GoOn,
            }
        }
    }
}
