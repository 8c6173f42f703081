//! `vmexit top`: the live view. This module has the loop that reads, draws and handles keys; `vmexit_view::top` has the
//! state and the drawing.

mod batch;
mod config;
mod live;
mod replay;
mod screen;
mod source;

use std::{
    env,
    future::ready,
    io::{IsTerminal as _, stdout},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;
use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use vmexit_core::report::Scope;
use vmexit_view::{
    By, Figure, TableOptions,
    top::{Effect, Settings, State, Theme, draw, keys},
};

use self::{
    config::Config, live::LiveSource, replay::ReplaySource, screen::TerminalScreen,
    source::FrameSource,
};
use crate::{
    args::{
        CountArgs, MeasurementFormat, PeriodArgs, choice,
        heading::{CAPTURE, OUTPUT, TARGET},
        parse_interval,
    },
    error::Error,
    output::{self, Output},
    session::replay::ReplaySession,
    stop::Stop,
};

/// Arguments of `vmexit top`.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", keys::text()))]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) replay: ReplayArgs,

    #[command(flatten)]
    pub(crate) count: CountArgs,

    /// Time between readings [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval,
        help_heading = CAPTURE)]
    pub(crate) interval: Option<Duration>,

    /// Column to sort rows by, highest first [default: time]
    #[arg(long, value_name = "COLUMN", value_parser = choice::<Figure>(), help_heading = OUTPUT)]
    pub(crate) sort: Option<Figure>,

    /// First table of a VM: its exits, or its vCPUs; with --batch, tables of each vCPU too
    #[arg(long, value_name = "WHAT", value_parser = choice::<By>(), default_value = "vm", help_heading = OUTPUT)]
    pub(crate) by: By,

    /// Print a text report per interval; the default if standard output is no terminal
    #[arg(short, long, help_heading = OUTPUT)]
    pub(crate) batch: bool,

    /// End after N intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
        help_heading = OUTPUT)]
    pub(crate) frames: Option<u64>,

    /// Maximum rows per table, with --batch
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..),
        alias = "top", help_heading = OUTPUT)]
    pub(crate) rows: u32,

    /// Configuration file [default: ~/.config/vmexit/config.toml, if it exists]
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) config: Option<PathBuf>,
}

/// Recording to show.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Show a recording, or a directory of vmexit record: one recorded interval per --interval
    #[arg(long = "replay", id = "file", value_name = "FILE|DIR", help_heading = TARGET, conflicts_with_all = [
        "timing", "budget", "duty", "devices", "qmp", "max_vcpus", "tracepoints",
    ])]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) period: PeriodArgs,
}

const EXAMPLES: &str = "\
Examples:
  vmexit top                        all VMs, every second
  vmexit top --vm win10             one VM, with its tables open
  vmexit top --event vmexit -i 5s   exit reasons only, every 5 s: cheaper
  vmexit top --batch -n 3 --rows 5  three text reports, five rows per table
  vmexit top --replay /var/lib/vmexit --since 03:10";

pub(super) async fn run(args: TopArgs) -> Result<(), Error> {
    let config = Config::load(args.config.as_deref())?;
    if args.batch || !stdout().is_terminal() {
        return batch::run(&args, &config).await;
    }
    let signals = Signals::new()?;
    let interval = args.interval.unwrap_or(config.interval);
    let (source, open) = match &args.replay.file {
        Some(path) => {
            let replay = ReplaySource::start(replay_session(path, &args)?, path, interval)?;
            (FrameSource::Replay(Box::new(replay)), None)
        }
        None => {
            let live = LiveSource::start(&args.count, interval).await?;
            let only = live.only_vm();
            (FrameSource::Live(Box::new(live)), only)
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
    let first = source.frame(Scope::default(), false);
    let screen = TerminalScreen::open(config.mouse).map_err(Error::Terminal)?;
    let state = State::new(settings, first, TerminalScreen::size().map_err(Error::Terminal)?);
    let mut top = Top { source, state, screen, theme, signals };
    top.run(args.frames.unwrap_or(u64::MAX)).await
}

/// Session of the recording that `--replay` names.
fn replay_session(path: &Path, args: &TopArgs) -> Result<ReplaySession, Error> {
    let (vms, events) = (&args.count.watch.vms, &args.count.events);
    ReplaySession::open(path, args.replay.period.period(), vms, events)
}

/// The live view.
struct Top {
    source: FrameSource,
    state: State,
    screen: TerminalScreen,
    theme: Theme,
    signals: Signals,
}

impl Top {
    /// Shows a number of intervals, or until the user quits.
    async fn run(&mut self, mut frames: u64) -> Result<(), Error> {
        let mut events = EventStream::new();
        let mut drawn = false;
        while frames > 0 {
            let effect = tokio::select! {
                biased;
                asked = self.signals.next() => match asked {
                    SignalRequest::Stop => Effect::Quit,
                    SignalRequest::Suspend => {
                        self.screen.suspend(false).map_err(Error::Terminal)?;
                        Effect::None
                    }
                    // Another program may have changed the terminal meanwhile.
                    SignalRequest::Continue => Effect::Redraw,
                },
                event = events.next() => match event {
                    Some(event) => self.state.handle(&event.map_err(Error::Terminal)?),
                    None => Effect::Quit,
                },
                shown = self.source.next(&mut self.state) => {
                    shown?;
                    frames -= 1;
                    Effect::None
                }
                // Last, so that several events are shown in one frame.
                () = ready(()), if !drawn => {
                    self.draw()?;
                    drawn = true;
                    continue;
                }
            };
            drawn = false;
            if self.apply(effect).await? {
                break;
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> Result<(), Error> {
        self.screen.draw(|frame| draw(frame, &self.state, &self.theme)).map_err(Error::Terminal)
    }

    /// Applies the effect of an action; true if the view ends.
    async fn apply(&mut self, effect: Effect) -> Result<bool, Error> {
        match effect {
            Effect::None => {}
            Effect::Show => {
                self.source.set_paused(self.state.is_paused());
                self.show();
            }
            Effect::Refresh => {
                self.source.refresh_with_histograms(&self.state)?;
                self.show();
            }
            Effect::Reset => {
                self.source.reset()?;
                self.show();
            }
            Effect::Step { forward } => self.source.step(forward, &mut self.state)?,
            Effect::Interval => self.source.set_period(self.state.interval()),
            Effect::Save => {
                let message = match self.save().await {
                    Ok(path) => format!("written; show it with: vmexit report {path}"),
                    Err(error) => error.to_string(),
                };
                self.state.say(message);
            }
            Effect::Suspend => {
                self.signals.own += 1;
                self.screen.suspend(true).map_err(Error::Terminal)?;
            }
            Effect::Redraw => self.screen.take().map_err(Error::Terminal)?,
            Effect::Quit => return Ok(true),
        }
        Ok(false)
    }

    /// Shows the same interval in the current scope.
    fn show(&mut self) {
        let frame = self.source.frame(self.state.scope(), self.state.is_cumulative());
        self.state.refresh(frame);
    }

    /// Writes a recording of the shown interval, with all VMs, to the working directory. Returns the file's name.
    async fn save(&self) -> Result<String, Error> {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let path = format!("{}.vmexit", time.replace([':', '-'], ""));
        let measurement = self.source.measurement(self.state.is_cumulative());
        let output = Output::open(Some(path.as_ref())).await?;
        let options = TableOptions::default();
        output.write(output::render(&measurement, MeasurementFormat::Recording, &options)?).await?;
        Ok(path)
    }
}

/// Request of a signal.
enum SignalRequest {
    Stop,
    Suspend,
    Continue,
}

/// The signals that concern a terminal.
struct Signals {
    stop: Stop,
    hangup: Signal,
    suspend: Signal,
    resume: Signal,
    /// SIGTSTP signals that this process has sent to its own group and not received yet.
    own: u32,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signal);
        Ok(Self {
            stop: Stop::new()?,
            hangup: listen(SignalKind::hangup())?,
            suspend: listen(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: listen(SignalKind::from_raw(libc::SIGCONT))?,
            own: 0,
        })
    }

    async fn next(&mut self) -> SignalRequest {
        loop {
            tokio::select! {
                biased;
                () = self.stop.requested() => return SignalRequest::Stop,
                _ = self.hangup.recv() => return SignalRequest::Stop,
                _ = self.suspend.recv() => match self.own.checked_sub(1) {
                    Some(own) => self.own = own,
                    None => return SignalRequest::Suspend,
                },
                _ = self.resume.recv() => return SignalRequest::Continue,
            }
        }
    }
}
