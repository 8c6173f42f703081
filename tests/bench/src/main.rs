//! `vmexit-bench`: what it costs a guest that somebody watches its exits.
//!
//! Attaches one way of watching, sleeps, and says how many exits there were in how much time. A guest
//! that does nothing but exit makes fewer of them the more each costs; the difference to `nothing` is
//! the cost. Where the clock counts instructions, as under an emulator, that is exact.

mod command;
mod comparator;
mod window;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use self::{
    command::Watcher,
    comparator::Comparator,
    window::{Counts, Runs, Window},
};

/// Measure what watching KVM's exits costs
///
/// Prints one line of JSON: the time of the measurement, the exits that KVM itself counted in it, the
/// dots that the guest printed, the nanoseconds from exit to exit, and what the watching programs
/// counted (where they count), or how long a command's own threads ran. After the measurement, "check" compares how often each eBPF program ran
/// with KVM's exits of that time; the kernel's statistics for this would disturb before.
///
/// The modes on classic tracepoints keep the events from perf while they run.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  vmexit-bench nothing --seconds 8 --serial guest.serial
  vmexit-bench bpftrace --seconds 8 --serial guest.serial
  vmexit-bench command --seconds 8 --serial guest.serial -- vmexit capture --quiet -o report.txt")]
struct Args {
    /// How exits are watched
    mode: Mode,

    /// How long to measure [default: until SIGINT or SIGTERM]
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,

    /// From attaching to measuring, in seconds
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    settle: f64,

    /// What the guest prints, a dot for each of its rounds
    #[arg(long, value_name = "FILE")]
    serial: Option<PathBuf>,

    /// KVM's own count of exits: one VM's, or all VMs' together
    #[arg(long, value_name = "FILE", default_value = "/sys/kernel/debug/kvm/exits")]
    exits: PathBuf,

    /// The command attaches no eBPF programs: wait so many seconds instead
    #[arg(long, value_name = "N")]
    ready_after: Option<f64>,

    /// What to run in mode command; it ends by SIGINT
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// A way to watch exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Not at all
    Nothing,
    /// Raw tracepoint programs on kvm_exit and kvm_entry that read the clock, and nothing else
    Floor,
    /// The same on classic tracepoints
    FloorClassic,
    /// As bcc's kvmexit counts: kvm_exit alone, no times
    Bcc,
    /// As kvmexits.bt measures under bpftrace: a histogram of times by reason
    Bpftrace,
    /// The obvious programs: raw tracepoints, a hash table by thread, sums by reason and port
    RawNaive,
    /// The command after --, which attaches programs of its own
    Command,
}

/// What is attached while this lives.
enum Subject {
    Nothing,
    Comparator(Comparator),
    Watcher(Watcher),
}

#[derive(Serialize)]
struct Outcome {
    mode: Mode,
    #[serde(flatten)]
    measured: Window,
    counted: Option<u64>,
    command_cpu_ns: Option<u64>,
    check: Check,
}

#[derive(Serialize)]
struct Check {
    exits: Option<u64>,
    runs: Runs,
}

/// How long the kernel counts the programs' runs, after the measurement.
const CHECK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmexit-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(args: &Args) -> Result<()> {
    ensure!(
        (args.mode == Mode::Command) != args.command.is_empty(),
        "a command is for mode command, and mode command for a command"
    );
    let settle = seconds(args.settle)?;
    let length = args.seconds.map(seconds).transpose()?;
    let mut stop = Stop::new()?;

    let mut subject = select! {
        subject = Subject::start(args, settle) => subject?,
        () = stop.signalled() => bail!("interrupted before the measurement"),
    };
    let counts = || Counts::read(&args.exits, args.serial.as_deref());

    // All reading is outside of the measured time: the clock is the last thing at its start, the first
    // at its end.
    let counted = subject.counted()?;
    let ran = subject.cpu_ns();
    let start = counts()?.at_start();
    stop.after(length).await;
    let end = start.at_end();
    let measured = end.with(counts()?);
    let command_cpu_ns = ran.zip(subject.cpu_ns()).map(|(start, end)| end.saturating_sub(start));
    let counted = counted.zip(subject.counted()?).map(|(start, end)| end - start);
    subject.ensure_running()?;

    let check = check(args).await?;
    drop(subject);
    let outcome = Outcome { mode: args.mode, measured, counted, command_cpu_ns, check };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn check(args: &Args) -> Result<Check> {
    let before = Runs::start()?;
    let start = Counts::read(&args.exits, None)?;
    sleep(CHECK).await;
    let end = Counts::read(&args.exits, None)?;
    Ok(Check { exits: end.exits_since(&start), runs: before.end()? })
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{value} s is no time to wait"))
}

impl Subject {
    /// Attaches it, and gives it time to settle.
    async fn start(args: &Args, settle: Duration) -> Result<Self> {
        let subject = match args.mode {
            Mode::Nothing => Self::Nothing,
            Mode::Command => {
                let ready_after = args.ready_after.map(seconds).transpose()?;
                Self::Watcher(Watcher::start(&args.command, ready_after).await?)
            }
            mode => Self::Comparator(Comparator::start(mode)?),
        };
        sleep(settle).await;
        Ok(subject)
    }

    /// What it has counted since it was attached, where that can be known.
    fn counted(&self) -> Result<Option<u64>> {
        match self {
            Self::Comparator(comparator) => comparator.counted(),
            Self::Nothing | Self::Watcher(_) => Ok(None),
        }
    }

    /// How long a command's own threads have run.
    fn cpu_ns(&self) -> Option<u64> {
        match self {
            Self::Watcher(watcher) => watcher.cpu_ns(),
            Self::Nothing | Self::Comparator(_) => None,
        }
    }

    fn ensure_running(&mut self) -> Result<()> {
        match self {
            Self::Watcher(watcher) => watcher.ensure_running(),
            Self::Nothing | Self::Comparator(_) => Ok(()),
        }
    }
}

/// The signals that end a measurement.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).context("signals can't be caught");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    /// Sleeps so long, or until a signal.
    async fn after(&mut self, length: Option<Duration>) {
        select! {
            () = sleep(length.unwrap_or_default()), if length.is_some() => {}
            () = self.signalled() => {}
        }
    }

    async fn signalled(&mut self) {
        select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
