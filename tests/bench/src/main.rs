//! `vmexit-bench`: the cost to a guest of an observer of its exits.
//!
//! Attaches an observer, sleeps, and prints the number of exits and the time. The more an exit costs, the fewer exits
//! a guest makes that does nothing else. The difference to mode `nothing` is the cost. It is exact where the clock
//! counts instructions, as under an emulator.

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
    runs::{EnabledStatistics, OtherPrograms, ProgramRuns},
    subject::BenchSubject,
    window::{CounterReading, Window},
};

/// Measure the cost of watching KVM's exits
///
/// Prints one line of JSON: the length of the measurement, KVM's own count of exits, the guest's dots, the
/// nanoseconds from exit to exit, the smallest numbers of cycles printed by a guest with a clock, the count of
/// the programs if they count, and the CPU time of a command's threads. "check" has the number and duration of
/// runs of each eBPF program after the measurement, and KVM's exits of that time; the kernel's statistics of
/// runs would disturb the measurement itself.
///
/// While modes on classic tracepoints run, perf gets no events from these tracepoints.
///
/// Mode poll measures this process: CPU time and memory of polling like the live view. So does mode frame: CPU
/// time of one frame.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  vmexit-bench nothing --seconds 8 --serial guest.serial
  vmexit-bench bpftrace --seconds 8 --serial guest.serial
  vmexit-bench command --seconds 8 --serial guest.serial -- vmexit capture --quiet -o report.txt
  vmexit-bench poll --seconds 20 --vcpus 10")]
struct BenchCli {
    /// Way to watch exits
    mode: Mode,

    /// Length of the measurement, in seconds [default: until SIGINT or SIGTERM]
    #[arg(long, value_name = "N", required_if_eq("mode", "poll"))]
    seconds: Option<f64>,

    /// Time between attaching and measuring, in seconds
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    settle: f64,

    /// File with the guest's serial output, which has a dot per round
    #[arg(long, value_name = "FILE")]
    serial: Option<PathBuf>,

    /// File with KVM's own count of exits, of one VM or of all
    #[arg(long, value_name = "FILE", default_value = "/sys/kernel/debug/kvm/exits")]
    exits: PathBuf,

    /// Time to count the programs' runs after the measurement, in seconds
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    check: f64,

    /// Maximum number of vCPUs in mode poll
    #[arg(long, value_name = "N", required_if_eq("mode", "poll"))]
    vcpus: Option<u32>,

    /// Mode poll: make up an exit with times for each event
    #[arg(long)]
    made_up_times: bool,

    /// Command to run in mode command; it is ended by SIGINT
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// A way to watch exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// No observer
    Nothing,
    /// Raw tracepoint programs on kvm_exit and kvm_entry that only read the clock
    Floor,
    /// Classic tracepoint programs on kvm_exit and kvm_entry that only read the clock
    FloorClassic,
    /// Programs like those of bcc's kvmexit: counts on kvm_exit, no times
    Bcc,
    /// Programs like those of bpftrace's kvmexits.bt: a histogram of times by reason
    Bpftrace,
    /// Straightforward programs: raw tracepoints, a hash table by thread, sums by reason and port
    RawNaive,
    /// Raw tracepoint programs on kvm_pio, kvm_msr and kvm_mmio that do nothing
    Empty,
    /// Classic tracepoint programs on kvm_pio, kvm_msr and kvm_mmio that do nothing
    EmptyClassic,
    /// The kernel's tracer, with a ring buffer without a reader
    Ftrace,
    /// The agent's library, with a report each second
    Poll,
    /// The live view, with frames of a made-up large host
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
    runs: BTreeMap<String, ProgramRuns>,
}

fn main() -> ExitCode {
    let args = BenchCli::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmexit-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(args: &BenchCli) -> Result<()> {
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

    let others = OtherPrograms::now();
    let mut subject = select! {
        subject = BenchSubject::start(args.mode, &args.command, settle) => subject?,
        () = stop.signalled() => bail!("interrupted before the measurement"),
    };
    let counts = || CounterReading::read(&args.exits, args.serial.as_deref());

    // All other readings are outside of the measured time: the clock is read last at its start, and first at its end.
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

async fn check(args: &BenchCli, length: Duration, others: &OtherPrograms) -> Result<RunsCheck> {
    let counting = EnabledStatistics::start()?;
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

    /// Sleeps for this time, if any, or until a signal.
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
