//! `vmexit capture`: one interval of a given length, from attach to report.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use vmexit_common::vcpu::MOST_VCPUS;

use super::{args::CaptureArgs, error::Error, output::Output, vms};
use crate::{
    guest::{self, Vm},
    host::{Host, preflight},
    model::{self, Sources, Span},
    probe::{Event, Options, Probe, plan::Plan},
    reason::Names,
    snapshot::Interval,
    view::{self, units},
};

/// Room for vCPUs where few or none run yet.
const FEWEST_VCPUS: u32 = 64;

/// How often the progress line changes and new VMs are named.
const TICK: Duration = Duration::from_millis(500);

pub(super) async fn run(args: CaptureArgs) -> Result<(), Error> {
    preflight::check()?;
    let plan = Plan::make(args.tracepoints)?;
    if let Err(error) = &plan.pio
        && args.events.contains(&Event::Ioport)
    {
        log::warn!("no I/O ports will be shown: {error}");
    }
    let mut guests = Guests::find(&args.vms)?;
    let options = Options {
        max_vcpus: args.max_vcpus.unwrap_or_else(|| guests.room()),
        pids: guests.filter.clone(),
        timing: args.timing,
        events: args.events.iter().copied().collect(),
    };
    let output = Output::open(args.output.as_deref()).await?;
    let mut stop = Stop::new()?;

    let mut probe = Probe::start(&plan, &options)?;
    let start = probe.snapshot(|_| true)?;
    let started = SystemTime::now();
    let interrupted = watch(&args, &mut probe, &mut guests, &mut stop).await?;
    let end = probe.snapshot(|_| true)?;
    drop(probe);

    let interval = Interval::between(&start, &end);
    let span = Span {
        start: humantime::format_rfc3339_seconds(started).to_string(),
        seconds: interval.span_ns as f64 / 1e9,
        interrupted,
    };
    let sources = Sources {
        host: Host::current(),
        span,
        timing: args.timing,
        events: options.events,
        reasons: &Names::of_this_kernel(),
        guests: &guests.seen(),
    };
    let report = model::build(&interval, sources);
    output.write(view::render(&report, args.format)?).await
}

/// Waits until the time is up or somebody asks to stop; says which of the two.
async fn watch(
    args: &CaptureArgs,
    probe: &mut Probe,
    guests: &mut Guests,
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
                guests.note(&seen.pids);
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

/// SIGINT or SIGTERM: both end a capture early and still have its report.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signal);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The VMs of a capture: those at its start, and those that come while it runs.
struct Guests {
    /// Process ids asked for by `--vm`; `None` for all.
    filter: Option<BTreeSet<u32>>,
    /// By process id. Kept when a VM ends: what it did is still to be reported.
    known: BTreeMap<u32, Vm>,
}

impl Guests {
    fn find(wanted: &[String]) -> Result<Self, Error> {
        let running = vms::running()?.vms;
        let filter = match wanted {
            [] => None,
            wanted => Some(choose(&running, wanted)?),
        };
        let mut guests = Self { filter, known: BTreeMap::new() };
        guests.add(running);
        Ok(guests)
    }

    fn add(&mut self, vms: Vec<Vm>) {
        let wanted = |vm: &Vm| self.filter.as_ref().is_none_or(|pids| pids.contains(&vm.pid));
        let vms = vms.into_iter().filter(wanted).map(|vm| (vm.pid, vm));
        self.known.extend(vms.collect::<Vec<_>>());
    }

    /// Notes VMs that have come since, by the processes whose exits were seen: nobody else in `/proc`
    /// is looked at. One that comes and goes between two looks is still counted, only nameless.
    fn note(&mut self, pids: &BTreeSet<u32>) {
        if self.filter.is_some() {
            // Those asked for were all there at the start.
            return;
        }
        let new: Vec<Vm> = pids
            .iter()
            .filter(|pid| !self.known.contains_key(pid))
            .filter_map(|&pid| guest::find(pid))
            .collect();
        self.add(new);
    }

    /// Twice the vCPUs that run now: VMs start while we look.
    fn room(&self) -> u32 {
        let vcpus: usize = self.known.values().map(|vm| vm.vcpus).sum();
        u32::try_from(2 * vcpus).unwrap_or(u32::MAX).clamp(FEWEST_VCPUS, MOST_VCPUS)
    }

    fn seen(&self) -> Vec<Vm> {
        self.known.values().cloned().collect()
    }
}

/// The process ids that `--vm` means. A name that several VMs have means all of them.
fn choose(running: &[Vm], wanted: &[String]) -> Result<BTreeSet<u32>, Error> {
    let mut pids = BTreeSet::new();
    for wanted in wanted {
        let mut meant = running.iter().filter(|vm| vm.answers_to(wanted)).peekable();
        if meant.peek().is_none() {
            let running: Vec<String> =
                running.iter().map(|vm| format!("{} ({})", view::safe(&vm.name), vm.pid)).collect();
            return Err(Error::UnknownVm {
                wanted: view::safe(wanted),
                running: running.join(", "),
            });
        }
        pids.extend(meant.map(|vm| vm.pid));
    }
    Ok(pids)
}
