//! `vmexit capture`: one interval of a given length, from attach to report.

use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{args::CaptureArgs, error::Error, guests::Guests, output::Output, stop::Stop};
use crate::{
    guest::Vm,
    host::{Host, preflight},
    model::{self, Layout, Sources, Span},
    monitor::Maps,
    probe::{Options, Probe, plan::Plan},
    reason::Names,
    snapshot::Interval,
    view::{self, units},
};

/// How often the progress line changes and new VMs are named.
const TICK: Duration = Duration::from_millis(500);

pub(super) async fn run(args: CaptureArgs) -> Result<(), Error> {
    preflight::check()?;
    let plan = Plan::make(args.tracepoints)?;
    super::warn_of_missing(&plan, &args.events);
    let mut guests = Guests::find(&args.vms, args.devices.qmp.as_deref())?;
    let options = Options {
        max_vcpus: args.max_vcpus.unwrap_or_else(|| guests.room()),
        pids: guests.filter.clone(),
        timing: args.timing,
        events: args.events.iter().copied().collect(),
        slow: None,
    };
    let output = Output::open(args.output.as_deref()).await?;
    let mut stop = Stop::new()?;
    let mut maps = Maps::new(args.devices.options());
    guests.seen().iter().for_each(|vm| maps.learn(vm));

    let mut probe = Probe::start(&plan, &options)?;
    let start = probe.snapshot(|_| true)?;
    let started = SystemTime::now();
    let interrupted = watch(&args, &mut probe, &mut guests, &mut maps, &mut stop).await?;
    let end = probe.snapshot(|_| true)?;
    drop(probe);

    let interval = Interval::between(&start, &end);
    let span = Span {
        start: humantime::format_rfc3339_seconds(started).to_string(),
        seconds: interval.span_ns as f64 / 1e9,
        interrupted,
    };
    let (host, reasons, guests) = (Host::current(), Names::of_this_kernel(), guests.seen());
    let build = |maps: &Maps| {
        let sources = Sources {
            host: host.clone(),
            span: span.clone(),
            timing: args.timing,
            events: options.events.clone(),
            maps: maps.known(),
            layout: Layout {
                by: args.by,
                sort: args.sort,
                top: args.top.map(|top| top as usize),
                only: None,
            },
            reasons: &reasons,
            guests: &guests,
        };
        model::build(&interval, sources)
    };
    maps.settle().await;
    let mut report = build(&maps);
    // Devices may have come or moved since: it is asked again where an address was not found.
    let lost = report.vms.iter().filter(|vm| vm.has_unassigned()).map(|vm| vm.pid);
    let lost: Vec<&Vm> =
        lost.filter_map(|pid| guests.iter().find(|guest| guest.pid == pid)).collect();
    let mut asks = false;
    for vm in lost {
        asks |= maps.renew(vm);
    }
    if asks {
        maps.settle().await;
        report = build(&maps);
    }
    output.write(view::render(&report, args.format)?).await
}

/// Waits until the time is up or somebody asks to stop; says which of the two.
async fn watch(
    args: &CaptureArgs,
    probe: &mut Probe,
    guests: &mut Guests,
    maps: &mut Maps,
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
                guests.note(&seen.pids).iter().for_each(|vm| maps.learn(vm));
                progress.set_position(started.elapsed().as_millis() as u64);
                progress.set_message(format!(
                    "{} s of {}, {}, {} (ctrl-c ends early)",
                    started.elapsed().as_secs(),
                    humantime::format_duration(args.duration),
                    units::plural(guests.known.len() as u64, "VM"),
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
