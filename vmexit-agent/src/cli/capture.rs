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
    probe::Probe,
    recording::Recording,
    snapshot::{Interval, Snapshot, Step},
    view::{self, units},
};

/// How often the progress line changes and new VMs are named.
const TICK: Duration = Duration::from_millis(500);

/// Steps of a long capture; a short one's are as long as the shortest.
const STEPS: u32 = 60;
const SHORTEST_STEP: Duration = Duration::from_secs(1);

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
    let (mut probe, mut live) = Live::start(&args.count, Guests::find)?;
    let start = probe.snapshot(|_| true)?;
    let started = Moment::of(&start);
    let mut steps = Steps::from(start.clone());
    let interrupted = watch(args, &mut probe, &mut live, &mut steps, &mut stop).await?;
    let end = probe.snapshot(|_| true)?;
    drop(probe);

    let mut recording = live.recording(Interval::between(&start, &end), started, interrupted);
    recording.steps = steps.until(end);
    live.maps.settle().await;
    recording.learn(live.maps.known());
    // Devices may have come or moved since: it is asked again where an address was not found.
    if live.renew(&recording.report(Layout::default())) {
        live.maps.settle().await;
        recording.learn(live.maps.known());
    }
    Ok(recording)
}

/// What comes to be over the time.
struct Steps {
    last: Snapshot,
    done: Vec<Step>,
}

impl Steps {
    fn from(start: Snapshot) -> Self {
        Self { last: start, done: Vec::new() }
    }

    /// Ends a step.
    fn step(&mut self, now: Snapshot) {
        let last = mem::replace(&mut self.last, now);
        self.done.push(Step::of(&Interval::between(&last, &self.last)));
    }

    fn until(mut self, end: Snapshot) -> Vec<Step> {
        self.step(end);
        self.done
    }
}

/// Waits until the time is up or somebody asks to stop; says which of the two.
async fn watch(
    args: &MeasureArgs,
    probe: &mut Probe,
    live: &mut Live,
    steps: &mut Steps,
    stop: &mut Stop,
) -> Result<bool, Error> {
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
            _ = step.tick() => steps.step(probe.glance()?),
            _ = tick.tick() => {
                let seen = probe.progress()?;
                live.note(&seen.pids);
                progress.set_position(started.elapsed().as_millis() as u64);
                progress.set_message(format!(
                    "{} s of {}, {}, {} (ctrl-c ends early)",
                    started.elapsed().as_secs(),
                    humantime::format_duration(args.duration),
                    units::plural(live.guests.known.len() as u64, "VM"),
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
