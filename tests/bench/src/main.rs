//! `vmexit-bench`: what it costs a guest that somebody watches its exits.
//!
//! Attaches one way of watching, sleeps, and says how many exits there were in how much time. A guest
//! that does nothing but exit makes fewer of them the more each costs; the difference to `nothing` is
//! the cost. Where the clock counts instructions, as under an emulator, that is exact.

mod command;
mod comparator;
mod frame;
mod ftrace;
mod made_up;
mod poll;
mod runs;
mod subject;
mod window;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use self::{
    runs::{Counting, Others, Runs},
    subject::BenchSubject,
    window::{CounterReading, Window},
};

/// Measure what watching KVM's exits costs
///
/// Prints one line of JSON: the time of the measurement, the exits that KVM itself counted in it, the
/// dots that the guest printed, the nanoseconds from exit to exit, the smallest numbers of cycles that a
/// guest with a clock printed, and what the watching programs counted (where they count), or how long a
/// command's own threads ran. After the measurement, "check"
/// says how often each eBPF program ran and for how long, and KVM's exits of that time; the kernel's
/// statistics for this would disturb before.
///
/// The modes on classic tracepoints keep the events from perf while they run.
///
/// Mode poll measures itself instead: CPU time and memory of polling as a live view does. So does mode frame:
/// CPU time of one frame.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  vmexit-bench nothing --seconds 8 --serial guest.serial
  vmexit-bench bpftrace --seconds 8 --serial guest.serial
  vmexit-bench command --seconds 8 --serial guest.serial -- vmexit capture --quiet -o report.txt
  vmexit-bench poll --seconds 20 --vcpus 10")]
struct BenchArgs {
    /// How exits are watched
    mode: Mode,

    /// How long to measure [default: until SIGINT or SIGTERM]
    #[arg(long, value_name = "N", required_if_eq("mode", "poll"))]
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

    /// How long the programs' runs are counted after the measurement, in seconds
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    check: f64,

    /// Room for vCPUs in mode poll
    #[arg(long, value_name = "N", required_if_eq("mode", "poll"))]
    vcpus: Option<u32>,

    /// Mode poll: as if KVM had reported an exit for each event
    #[arg(long)]
    made_up_times: bool,

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
    /// Raw tracepoint programs on kvm_pio, kvm_msr and kvm_mmio that do nothing
    Empty,
    /// The same on classic tracepoints
    EmptyClassic,
    /// The kernel's own tracer, into a ring buffer that nobody reads
    Ftrace,
    /// The agent's library, polled each second for its report
    Poll,
    /// The live view's library, drawing a large host that is made up
    Frame,
    /// The command after --, which attaches eBPF programs or opens perf events
    Command,
}

#[derive(Serialize)]
struct Outcome {
    mode: Mode,
    #[serde(flatten)]
    measured: Window,
    counted: Option<u64>,
    command_cpu_ns: Option<u64>,
    check: RunsCheck,
}

#[derive(Serialize)]
struct RunsCheck {
    exits: Option<u64>,
    runs: BTreeMap<String, Runs>,
}

fn main() -> ExitCode {
    let args = BenchArgs::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmexit-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(args: &BenchArgs) -> Result<()> {
    ensure!(
        (args.mode == Mode::Command) != args.command.is_empty(),
        "a command is for mode command, and mode command for a command"
    );
    let (settle, check_length) = (seconds(args.settle)?, seconds(args.check)?);
    let length = args.seconds.map(seconds).transpose()?;
    if let (Mode::Poll, Some(vcpus), Some(length)) = (args.mode, args.vcpus, length) {
        let polled = poll::poll(vcpus, length, args.made_up_times).await?;
        println!("{}", serde_json::to_string(&polled)?);
        return Ok(());
    }
    if args.mode == Mode::Frame {
        println!("{}", serde_json::to_string(&frame::frame()?)?);
        return Ok(());
    }
    let mut stop = StopSignals::new()?;

    let others = Others::now();
    let mut subject = select! {
        subject = BenchSubject::start(args.mode, &args.command, settle) => subject?,
        () = stop.signalled() => bail!("interrupted before the measurement"),
    };
    let counts = || CounterReading::read(&args.exits, args.serial.as_deref());

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

    let check = check(args, check_length, &others).await?;
    drop(subject);
    let outcome = Outcome { mode: args.mode, measured, counted, command_cpu_ns, check };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn check(args: &BenchArgs, length: Duration, others: &Others) -> Result<RunsCheck> {
    let counting = Counting::start()?;
    let start = CounterReading::read(&args.exits, None)?;
    sleep(length).await;
    let end = CounterReading::read(&args.exits, None)?;
    Ok(RunsCheck { exits: end.exits_since(&start), runs: counting.end(others) })
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{value} s is no time to wait"))
}

/// The signals that end a measurement.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
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
