//! `vmexit capture`: one interval of a given length, from attach to report.

use std::{mem, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    args::{CaptureArgs, MeasureArgs, Written},
    error::Error,
    guests::Guests,
    live::{Live, Moment},
    output::Output,
    report,
    stop::Stop,
};
use crate::{
    model::Layout,
    probe::{Probe, Timing},
    recording::Recording,
    sampler::Spent,
    snapshot::{Interval, Snapshot, Step},
    view::{self, units},
};

/// How often the progress line changes and new VMs are named.
const TICK: Duration = Duration::from_millis(500);

/// Steps of a long capture; a short one's are as long as the shortest.
const STEPS: u32 = 60;
const SHORTEST_STEP: Duration = Duration::from_secs(1);

/// What is counted at times only is counted five times in a short capture, and once in so long in others: each
/// time takes the agent some milliseconds.
const WINDOWS: u32 = 5;
const LONGEST_PERIOD: Duration = Duration::from_secs(10);

pub(super) async fn run(args: CaptureArgs) -> Result<(), Error> {
    let CaptureArgs { measure: asked, written, tables } = args;
    let output = Output::of(&written).await?;
    let recording = measure(&asked).await?;
    let format = written.format();
    output.write(report::written(&recording, format, tables.layout())?).await?;
    if let (Written::Recording, Some(file), false) = (format, &written.output, asked.quiet) {
        let file = view::path(file);
        eprintln!("vmexit: {file} is a recording: vmexit report {file} shows it");
    }
    Ok(())
}

/// Watches the VMs for as long as was asked for.
pub(super) async fn measure(args: &MeasureArgs) -> Result<Recording, Error> {
    let mut stop = Stop::new()?;
    let period = (args.duration / WINDOWS).clamp(SHORTEST_STEP, LONGEST_PERIOD);
    let (probe, live) = Live::start(&args.count, period, Guests::find).await?;
    let mut capture = Capture::start(probe, live)?;
    let interrupted = watch(args, &mut capture, &mut stop).await?;
    let (mut recording, mut live) = capture.finish(interrupted)?;
    live.maps.settle().await;
    recording.learn(live.maps.known());
    // Devices may have come or moved since: it is asked again where an address was not found.
    if live.renew(&recording.report(Layout::default())) {
        live.maps.settle().await;
        recording.learn(live.maps.known());
    }
    Ok(recording)
}

/// What has come together so far.
struct Capture {
    probe: Probe,
    live: Live,
    started: Moment,
    /// The last reading with all durations, and what was before it.
    last: Snapshot,
    sum: Option<Measured>,
    /// The last reading of counts, and what came to be over the time until then.
    glanced: Snapshot,
    steps: Vec<Step>,
    spent: Option<Spent>,
}

/// An interval, and which exits were timed in it.
struct Measured {
    interval: Interval,
    timing: Timing,
}

impl Capture {
    fn start(mut probe: Probe, live: Live) -> Result<Self, Error> {
        let last = probe.snapshot(|_| true)?;
        let started = Moment::of(&last);
        let glanced = last.clone();
        let steps = Vec::new();
        Ok(Self { probe, live, started, last, sum: None, glanced, steps, spent: None })
    }

    /// Ends a step; says whether other exits are timed from now on.
    fn step(&mut self, now: Snapshot) -> Result<bool, Error> {
        let before = mem::replace(&mut self.glanced, now);
        let part = Interval::between(&before, &self.glanced);
        let differs = self.live.adjust(&mut self.probe, &part)?;
        self.steps.push(Step::of(&part));
        self.spent = Spent::sum(self.spent, self.live.spent);
        Ok(differs)
    }

    /// Ends the interval in which these exits were timed.
    fn cut(&mut self) -> Result<(), Error> {
        let now = self.probe.snapshot(|_| true)?;
        let next = Interval::between(&self.last, &now);
        self.sum = Some(self.with(next));
        self.last = now;
        Ok(())
    }

    /// All until now, with the interval that came last.
    fn with(&mut self, next: Interval) -> Measured {
        let timing = self.live.timing;
        match self.sum.take() {
            None => Measured { interval: next, timing },
            Some(Measured { mut interval, timing: before }) => {
                interval.extend(next, 0, before.shares(timing));
                Measured { interval, timing: before.and(timing) }
            }
        }
    }

    /// Detaches; all of it, but for what the VMs say of their devices.
    fn finish(mut self, interrupted: bool) -> Result<(Recording, Live), Error> {
        let end = self.probe.snapshot(|_| true)?;
        let next = Interval::between(&self.last, &end);
        self.step(end)?;
        let Measured { interval, timing } = self.with(next);
        drop(self.probe);
        let recording = self.live.recording(interval, self.started, interrupted);
        Ok((Recording { timing, spent: self.spent, steps: self.steps, ..recording }, self.live))
    }
}

/// Waits until the time is up or somebody asks to stop; says which of the two.
async fn watch(args: &MeasureArgs, capture: &mut Capture, stop: &mut Stop) -> Result<bool, Error> {
    let started = Instant::now();
    let progress = progress_line(args);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut step = interval((args.duration / STEPS).max(SHORTEST_STEP));
    step.set_missed_tick_behavior(MissedTickBehavior::Skip);
    step.reset();
    let end = sleep_until(started + args.duration);
    tokio::pin!(end);
    let interrupted = loop {
        tokio::select! {
            biased;
            () = stop.asked() => break true,
            () = &mut end => break false,
            () = capture.live.due() => capture.live.turn(&mut capture.probe)?,
            _ = step.tick() => {
                let now = capture.probe.glance()?;
                if capture.step(now)? {
                    capture.cut()?;
                }
            }
            _ = tick.tick() => {
                let seen = capture.probe.progress()?;
                capture.live.note(&seen.pids);
                progress.set_position(started.elapsed().as_millis() as u64);
                progress.set_message(format!(
                    "{} s of {}, {}, {} (ctrl-c ends early)",
                    started.elapsed().as_secs(),
                    humantime::format_duration(args.duration),
                    units::plural(capture.live.guests.known.len() as u64, "VM"),
                    units::plural(seen.events, "event"),
                ));
            }
        }
    };
    progress.finish_and_clear();
    Ok(interrupted)
}

/// On standard error, and only if that is a terminal.
fn progress_line(args: &MeasureArgs) -> ProgressBar {
    if args.quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.duration.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
        bar.set_style(style);
    }
    bar
}
