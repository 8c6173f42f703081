//! `vmexit top`: the live view. The loop that reads, shows and listens; what is shown is the view's.

mod batch;
mod live;
mod looks;
mod replay;
mod scene;

use std::{
    env,
    future::ready,
    io::{IsTerminal as _, stdout},
    path::Path,
    time::SystemTime,
};

use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use self::{
    live::Watched,
    replay::{Intervals, Replay},
    scene::Scene,
};
use super::{
    args::{TopArgs, Written},
    config::Config,
    error::Error,
    output::Output,
    report,
    screen::Screen,
    stop::Stop,
};
use crate::{
    model::Layout,
    view::top::{Effect, Settings, State, Theme, draw},
};

pub(super) async fn run(args: TopArgs) -> Result<(), Error> {
    let config = Config::load(args.config.as_deref())?;
    if args.batch || !stdout().is_terminal() {
        return batch::run(&args, &config).await;
    }
    let signals = Signals::new()?;
    let interval = args.interval.unwrap_or(config.interval);
    let (scene, open) = match &args.replay.file {
        Some(path) => {
            let rest = intervals(path, &args)?;
            (Scene::Replay(Box::new(Replay::start(rest, path)?)), None)
        }
        None => {
            let watched = Watched::start(&args.count, interval).await?;
            let only = watched.only();
            (Scene::Watched(Box::new(watched)), only)
        }
    };
    let settings = Settings {
        interval,
        sort: args.sort.unwrap_or(config.sort),
        by: args.by,
        open,
        columns: config.columns,
        replay: args.replay.file.is_some(),
    };
    let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let theme = if no_colour { config.theme.without_colours() } else { config.theme };
    let first = scene.words(Layout::default(), false);
    let screen = Screen::open(config.mouse).map_err(Error::Screen)?;
    let state = State::new(settings, first, Screen::size().map_err(Error::Screen)?);
    let tick = ticks(&state);
    let mut top = Top { scene, state, screen, theme, tick, signals };
    top.run(args.frames.unwrap_or(u64::MAX)).await
}

/// What is to be replayed.
fn intervals(path: &Path, args: &TopArgs) -> Result<Intervals, Error> {
    Intervals::open(path, &args.replay, &args.count.watch.vms, &args.count.events)
}

/// The live view and all that it takes.
struct Top {
    scene: Scene,
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
                () = self.scene.due() => {
                    self.scene.turn()?;
                    continue;
                }
                _ = self.tick.tick() => {
                    self.scene.look(&mut self.state).await?;
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

    /// Does what an action takes; says whether it is over.
    async fn carry_out(&mut self, effect: Effect) -> Result<bool, Error> {
        match effect {
            Effect::None => {}
            Effect::Show => {
                self.scene.freeze(self.state.is_paused());
                self.show();
            }
            Effect::Look => {
                self.scene.look_closer(&self.state)?;
                self.tick.reset();
                self.show();
            }
            Effect::Reset => {
                self.scene.reset()?;
                self.tick.reset();
                self.show();
            }
            Effect::Step { on } => self.scene.step(on, &mut self.state)?,
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
        let look = self.scene.words(self.state.layout(), self.state.is_cumulative());
        self.state.refresh(look);
    }

    /// Writes a recording of what is shown, of all VMs, into the working directory; the file's name.
    async fn save(&self) -> Result<String, Error> {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let path = format!("{}.vmexit", time.replace([':', '-'], ""));
        let recording = self.scene.recording(self.state.is_cumulative());
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
