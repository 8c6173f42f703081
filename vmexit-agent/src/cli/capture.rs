//! `vmexit capture`: one interval of a given length, from attach to report.

use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    args::{CaptureArgs, Written},
    error::Error,
    guests::Guests,
    live::Live,
    output::Output,
    report,
    stop::Stop,
};
use crate::{
    model::Layout,
    probe::Probe,
    snapshot::Interval,
    view::{self, units},
};

/// How often the progress line changes and new VMs are named.
const TICK: Duration = Duration::from_millis(500);

pub(super) async fn run(args: CaptureArgs) -> Result<(), Error> {
    let output = Output::of(&args.written).await?;
    let mut stop = Stop::new()?;
    let (mut probe, mut live) = Live::start(&args.count, Guests::find)?;
    let start = probe.snapshot(|_| true)?;
    let started = SystemTime::now();
    let interrupted = watch(&args, &mut probe, &mut live, &mut stop).await?;
    let end = probe.snapshot(|_| true)?;
    drop(probe);

    let interval = Interval::between(&start, &end);
    let mut recording = live.recording(interval, started, interrupted);
    live.maps.settle().await;
    recording.learn(live.maps.known());
    // Devices may have come or moved since: it is asked again where an address was not found.
    if live.renew(&recording.report(Layout::default())) {
        live.maps.settle().await;
        recording.learn(live.maps.known());
    }
    let format = args.written.format();
    output.write(report::written(&recording, format, args.tables.layout())?).await?;
    if let (Written::Recording, Some(file), false) = (format, &args.written.output, args.quiet) {
        let file = view::path(file);
        eprintln!("vmexit: {file} is a recording: vmexit report {file} shows it");
    }
    Ok(())
}

/// Waits until the time is up or somebody asks to stop; says which of the two.
async fn watch(
    args: &CaptureArgs,
    probe: &mut Probe,
    live: &mut Live,
    stop: &mut Stop,
) -> Result<bool, Error> {
    let started = Instant::now();
    let progress = progress_line(args);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = sleep_until(started + args.duration);
    tokio::pin!(end);
    let interrupted = loop {
        tokio::select! {
            biased;
            () = stop.asked() => break true,
            () = &mut end => break false,
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
fn progress_line(args: &CaptureArgs) -> ProgressBar {
    if args.quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.duration.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
        bar.set_style(style);
    }
    bar
}
