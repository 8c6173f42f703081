//! `vmexit capture`: counts for a given time, then reports.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use vmexit_core::{
    counters::Step, escape, measurement::Measurement, store::MeasurementSum, units::plural,
};

use crate::{
    args::{
        CountArgs, MeasurementFormat, TableArgs, WrittenArgs,
        heading::{CAPTURE, OUTPUT},
        parse_duration,
    },
    error::Error,
    output::{self, Output},
    session::{Session as _, guests::Guests, live::LiveSession},
    stop::Stop,
    warnings,
};

/// Arguments of `vmexit capture`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,

    #[command(flatten)]
    pub(crate) written: WrittenArgs,

    #[command(flatten)]
    pub(crate) tables: TableArgs,
}

/// Arguments of one capture.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    #[command(flatten)]
    pub(crate) count: CountArgs,

    /// Length of the capture; ctrl-c ends it early and still reports
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_duration,
        help_heading = CAPTURE)]
    pub(crate) duration: Duration,

    /// Print no progress line
    #[arg(short, long, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  vmexit capture                          all VMs, 10 seconds
  vmexit capture --vm win10 -d 1m         one VM, one minute
  vmexit capture --by vcpu --rows 5       each vCPU, five rows per table
  vmexit capture --event vmexit,msr       exits and registers only: cheaper
  vmexit capture -o before.vmexit         a recording, for report and diff
  vmexit capture --format json -o x.json  for a program to read";

/// Period of the progress line and of the search for new VMs.
const TICK: Duration = Duration::from_millis(500);

/// Steps of a long capture, for the report over time.
const STEPS: u32 = 60;
/// Shortest step.
const MIN_STEP: Duration = Duration::from_secs(1);

/// Windows in a short capture. Each costs the agent some milliseconds.
const WINDOWS: u32 = 5;
/// Longest period of windows, in long captures.
const MAX_WINDOW_PERIOD: Duration = Duration::from_secs(10);

pub(super) async fn run(args: CaptureArgs) -> Result<(), Error> {
    let output = Output::for_measurement(&args.written).await?;
    let measurement = measure(&args.measure).await?;
    let format = args.written.format();
    output.write(output::render(&measurement, format, &args.tables.options())?).await?;
    let file = args.written.output.filter(|_| format == MeasurementFormat::Recording);
    if let Some(file) = file.filter(|_| !args.measure.quiet) {
        let file = escape::path(&file);
        warnings::say(format_args!("recorded to {file}; show it with: vmexit report {file}"));
    }
    Ok(())
}

/// Measures for the given time: the sum of steps.
///
/// # Errors
/// The session can't be started or read, or the counters overflow.
pub(super) async fn measure(args: &MeasureArgs) -> Result<Measurement, Error> {
    let mut stop = Stop::new()?;
    let step = (args.duration / STEPS).max(MIN_STEP);
    let window = (args.duration / WINDOWS).clamp(MIN_STEP, MAX_WINDOW_PERIOD);
    let mut session = LiveSession::start(&args.count, step, window, Guests::find).await?;
    let mut sum = MeasurementSum::default();
    let interrupted = watch(args, &mut session, &mut sum, &mut stop).await?;
    let last = session.end_interval().await?;
    sum.add(Measurement { interrupted, ..last }).map_err(Error::PeriodTooLong)?;
    let mut measurement = sum.finish().ok_or(Error::NoVm)?;
    if measurement.steps.is_empty() {
        measurement.steps = vec![Step::of(&measurement.interval)];
    }
    session.finish(&mut measurement).await;
    Ok(measurement)
}

/// Adds steps until the end of the capture or a request to stop; returns whether it was stopped.
async fn watch(
    args: &MeasureArgs,
    session: &mut LiveSession,
    sum: &mut MeasurementSum,
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
            () = stop.requested() => break true,
            () = &mut end => break false,
            step = session.next() => {
                step?.map_or(Ok(()), |step| sum.add(step)).map_err(Error::PeriodTooLong)?;
            }
            _ = tick.tick() => {
                let seen = session.progress()?;
                progress.set_position(started.elapsed().as_millis() as u64);
                progress.set_message(format!(
                    "{} s of {}, {}, {} (ctrl-c ends early)",
                    started.elapsed().as_secs(),
                    humantime::format_duration(args.duration),
                    plural(session.guests.known.len() as u64, "VM"),
                    plural(seen.events, "event"),
                ));
            }
        }
    };
    progress.finish_and_clear();
    Ok(interrupted)
}

/// Progress line on standard error; hidden unless that is a terminal.
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
