//! `vmexit trace`: single slow exits as they happen.

mod status;

use std::{
    io,
    time::{Duration, SystemTime},
};

use clap::Args;
use tokio::{
    io::{AsyncWriteExt as _, Stdout, stdout},
    time::{sleep, timeout},
};
use vmexit_common::slow;
use vmexit_core::{
    device::Map,
    event::Event,
    reason::Names,
    report::{Clock, SlowExit, SlowSources},
    timing::Timing,
    vendor::Vendor,
    vm::Vmm,
};
use vmexit_view::Format;

use self::status::TraceStatus;
use crate::{
    args::{
        WatchArgs, choice,
        heading::{CAPTURE, OUTPUT},
        parse_duration, parse_threshold,
    },
    error::Error,
    host::{self, preflight},
    monitor::Maps,
    probe::{self, Probe, ProbeOptions, SlowExits, SlowFilter, plan::AttachPlan},
    session::{guests::Guests, live::warn_of_missing_events},
    stop::Stop,
};

/// Arguments of `vmexit trace`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) watch: WatchArgs,

    /// Shortest duration of an exit to show, from exit to entry
    #[arg(short, long, value_name = "TIME", default_value = "1ms", value_parser = parse_threshold,
        help_heading = CAPTURE)]
    pub(crate) slower_than: Duration,

    /// Include exits in which the vCPU only waits (HLT)
    #[arg(long, help_heading = CAPTURE)]
    pub(crate) waiting: bool,

    /// Length of the trace [default: until ctrl-c]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration,
        help_heading = CAPTURE)]
    pub(crate) duration: Option<Duration>,

    /// End after N exits
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
        help_heading = CAPTURE)]
    pub(crate) count: Option<u64>,

    /// Format: a table with a line per exit, or a JSON object per line
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,
}

const EXAMPLES: &str = "\
Examples:
  vmexit trace                                exits of 1 ms or longer
  vmexit trace --vm win10 --slower-than 20us  one VM, 20 µs or longer
  vmexit trace --waiting -d 10s -n 100        with HLT; ten seconds or 100 exits
  vmexit trace --format json | jq -c 'select(.vcpu == 0)'";

/// Time limit for writing after a request to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Exits written at once.
const BATCH: usize = 256;

pub(super) async fn run(args: TraceArgs) -> Result<(), Error> {
    preflight::check()?;
    let plan = AttachPlan::make(args.watch.tracepoints)?;
    warn_of_missing_events(&plan, &Event::ALL);
    let guests = Guests::find(&args.watch)?;
    let mut maps = Maps::new(args.watch.devices.options());
    guests.known.values().for_each(|vm| maps.query(vm));
    maps.wait().await;
    let vendor = host::current().vendor;
    let waiting = vendor.filter(|_| !args.waiting).into_iter().flat_map(Vendor::waiting);
    let options = ProbeOptions {
        max_vcpus: args.watch.max_vcpus.unwrap_or_else(|| guests.vcpu_capacity()),
        pids: guests.filter.clone(),
        timing: Timing::All,
        events: Event::ALL.into(),
        sampled: false,
        slow: Some(SlowFilter {
            at_least_ns: u64::try_from(args.slower_than.as_nanos()).unwrap_or(u64::MAX),
            ignored: waiting.collect(),
        }),
    };
    let mut stop = Stop::new()?;
    let mut probe = Probe::start(&plan, &options)?;
    let mut exits = probe.slow_exits()?;
    let mut status = TraceStatus::new(probe);
    let mut out = ExitWriter {
        guests,
        maps,
        names: host::reason_names(),
        clock: clock(),
        vendor,
        // Without kvm_userspace_exit it is unknown which exits go to userspace.
        userspace: !plan
            .missing(&[Event::Userspace])
            .iter()
            .any(|(tracepoint, _)| tracepoint.name == "kvm_userspace_exit"),
        format: args.format,
        left: args.count.unwrap_or(u64::MAX),
        shown: 0,
        stdout: stdout(),
    };
    let end = tokio::select! {
        end = write_exits(&args, &mut exits, &mut out, &mut stop) => end?,
        error = status.watch() => return error.map(drop),
    };
    let mut unread = 0;
    match end {
        End::Closed => return Ok(()),
        End::Stuck(last) => {
            unread = last + exits.take(SlowExits::CAPACITY).len();
        }
        End::Time => {
            // Exits that ended in time and are still in the buffer.
            let rest = exits.take(SlowExits::CAPACITY);
            match out.write_until(&mut stop, &rest).await? {
                WriteOutcome::Closed => return Ok(()),
                WriteOutcome::Stuck(last) => unread = last,
                WriteOutcome::All | WriteOutcome::Enough | WriteOutcome::Stopped => {}
            }
        }
        End::Enough => {}
    }
    status.print_summary(out.shown, unread as u64)
}

/// End of a trace.
enum End {
    /// The time is up, or a stop was requested.
    Time,
    /// The requested number of exits was written.
    Enough,
    /// A stop was requested while the output was blocked; the number of exits not written.
    Stuck(usize),
    /// The reader has closed the output.
    Closed,
}

/// Writes exits as they come, until the trace ends.
async fn write_exits(
    args: &TraceArgs,
    exits: &mut SlowExits,
    out: &mut ExitWriter,
    stop: &mut Stop,
) -> Result<End, Error> {
    if let WriteOutcome::Closed = out.write(&vmexit_view::slow_header(args.format)).await? {
        return Ok(End::Closed);
    }
    let end = async {
        match args.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            biased;
            () = stop.requested() => return Ok(End::Time),
            () = &mut end => return Ok(End::Time),
            exits = exits.wait(BATCH) => match out.write_until(stop, &exits?).await? {
                WriteOutcome::All => {}
                WriteOutcome::Stopped => return Ok(End::Time),
                WriteOutcome::Enough => return Ok(End::Enough),
                WriteOutcome::Stuck(unread) => return Ok(End::Stuck(unread)),
                WriteOutcome::Closed => return Ok(End::Closed),
            },
        }
    }
}

/// Result of a write.
enum WriteOutcome {
    /// All exits were written.
    All,
    /// The requested number of exits was written.
    Enough,
    /// All exits were written, and a stop was requested meanwhile.
    Stopped,
    /// A stop was requested while the output was blocked; the number of exits not written.
    Stuck(usize),
    /// The reader has closed the output.
    Closed,
}

/// Wall clock and kernel clock of the same moment.
fn clock() -> Clock {
    Clock { wall: SystemTime::now(), ns: probe::now_ns() }
}

/// Writer of exits to standard output.
struct ExitWriter {
    guests: Guests,
    maps: Maps,
    names: Names,
    clock: Clock,
    vendor: Option<Vendor>,
    /// Whether the host reports exits to userspace.
    userspace: bool,
    format: Format,
    /// Exits to write until the trace ends.
    left: u64,
    /// Exits written.
    shown: u64,
    stdout: Stdout,
}

impl ExitWriter {
    /// Writes exits. A slow reader delays it, but after a request to stop only for [`STOP_TIMEOUT`].
    async fn write_until(
        &mut self,
        stop: &mut Stop,
        exits: &[slow::SlowExitRecord],
    ) -> Result<WriteOutcome, Error> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(exits.len());
        let lines = self.render(&exits[..wanted]).await?;
        let mut stopped = false;
        let written = {
            let write = self.write(&lines);
            tokio::pin!(write);
            tokio::select! {
                written = &mut write => written?,
                () = stop.requested() => {
                    stopped = true;
                    match timeout(STOP_TIMEOUT, write).await {
                        Ok(written) => written?,
                        Err(_) => return Ok(WriteOutcome::Stuck(exits.len())),
                    }
                }
            }
        };
        self.left -= wanted as u64;
        self.shown += wanted as u64;
        Ok(match written {
            WriteOutcome::All if self.left == 0 => WriteOutcome::Enough,
            WriteOutcome::All if stopped => WriteOutcome::Stopped,
            written => written,
        })
    }

    async fn render(&mut self, exits: &[slow::SlowExitRecord]) -> Result<String, Error> {
        let pids = exits.iter().map(|exit| (exit.thread >> 32) as u32).collect();
        self.guests.add_new(&pids).iter().for_each(|vm| self.maps.query(vm));
        self.maps.collect_finished().await;
        self.clock = self.clock.resync(clock());
        let mut lines = String::new();
        for exit in exits {
            let pid = (exit.thread >> 32) as u32;
            let guest = self.guests.known.get(&pid);
            let guessed = Map::Guessed(guest.map_or(Vmm::Other, |vm| vm.vmm));
            let sources = SlowSources {
                reasons: &self.names,
                vendor: self.vendor,
                map: self.maps.known().get(&pid).unwrap_or(&guessed),
                guest,
                userspace: self.userspace,
                clock: self.clock,
            };
            let exit = SlowExit::of(exit, sources);
            lines.push_str(&vmexit_view::slow(&exit, self.format)?);
            // Devices are plugged in, and firmware moves them: a new query helps the next exits.
            if let Some(vm) = guest.filter(|_| exit.is_unassigned()) {
                self.maps.query_again(vm);
            }
        }
        Ok(lines)
    }

    /// Writes lines and flushes them.
    async fn write(&mut self, lines: &str) -> Result<WriteOutcome, Error> {
        let written = match self.stdout.write_all(lines.as_bytes()).await {
            Ok(()) => self.stdout.flush().await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Ok(WriteOutcome::All),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(WriteOutcome::Closed),
            Err(source) => Err(Error::Output { path: "standard output".into(), source }),
        }
    }
}
