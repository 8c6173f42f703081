//! Mode `poll`: CPU time and memory of the agent with a report each second.
//!
//! It does the work of the live view by the agent's library: read the maps, subtract the previous snapshot, build the
//! report, render one VM, the only one whose durations are read. Only VMs of `vmexit-vcpus` are included.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use vmexit::{
    discover, host,
    probe::{
        Probe, ProbeOptions,
        plan::{AttachPlan, Tracepoints},
    },
};
use vmexit_core::{
    counters::{Interval, Snapshot},
    event::Event,
    finding,
    host::Host,
    measurement::{Measurement, VERSION},
    reason::Names,
    report::{Scope, Selection},
    timing::Timing,
    vm::Vm,
};
use vmexit_view::{ReportFormat, TableOptions};

use crate::made_up;

/// Time between two polls.
const PERIOD: Duration = Duration::from_secs(1);

/// Polls before the measurement, until buffers have their final size.
const WARM_UP: u32 = 3;

/// Name of the VMs to include.
const VMM: &str = "vmexit-vcpus";

/// Cost of polling.
#[derive(Debug, Serialize)]
pub(crate) struct Polled {
    /// Length of the measurement, seconds.
    seconds: f64,
    /// Number of polls.
    polls: usize,
    /// Number of VMs in a report.
    vms: usize,
    /// Number of vCPUs with events, in the poll with fewest.
    busy_vcpus: usize,
    /// Number of rows with events of all vCPUs, average of all polls.
    busy_rows: usize,
    /// Bytes of the last rendered report.
    rendered: usize,
    /// CPU time of this process, nanoseconds, without that for made-up times.
    cpu_ns: u64,
    /// CPU time by stage, nanoseconds.
    stages_ns: PollStages,
    /// Resident memory at the end, KiB, by the kernel's names of its parts; `VmHWM` is the peak.
    memory_kib: BTreeMap<String, u64>,
}

/// CPU time by stage, nanoseconds.
type PollStages = BTreeMap<&'static str, u64>;

/// A live view without a screen.
struct PolledView {
    probe: Probe,
    host: Host,
    reasons: Names,
    guests: BTreeMap<u32, Vm>,
    last: Snapshot,
    made_up_times: bool,
    made_up_ns: u64,
    stages_ns: PollStages,
}

/// Figures of one poll.
struct PollFigures {
    vms: usize,
    busy_vcpus: usize,
    busy_rows: usize,
    rendered: usize,
}

/// Polls for this time, with at most so many vCPUs. With made-up times, each event becomes an exit.
///
/// # Errors
///
/// When no VM of `vmexit-vcpus` runs, or the programs can't be attached or read.
pub(crate) async fn poll(vcpus: u32, length: Duration, made_up_times: bool) -> Result<Polled> {
    let mut view = PolledView::start(vcpus, made_up_times)?;
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for _ in 0..WARM_UP {
        tick.tick().await;
        view.poll()?;
    }
    (view.stages_ns, view.made_up_ns) = (PollStages::new(), 0);
    let (start, cpu_at_start) = (Instant::now(), cpu_ns());
    let mut polls = Vec::new();
    while start.elapsed() < length {
        tick.tick().await;
        polls.push(view.poll()?);
    }
    let last = polls.last().context("no poll in that time")?;
    Ok(Polled {
        seconds: start.elapsed().as_secs_f64(),
        polls: polls.len(),
        vms: last.vms,
        busy_vcpus: polls.iter().map(|poll| poll.busy_vcpus).min().unwrap_or(0),
        busy_rows: polls.iter().map(|poll| poll.busy_rows).sum::<usize>() / polls.len(),
        rendered: last.rendered,
        cpu_ns: cpu_ns() - cpu_at_start - view.made_up_ns,
        stages_ns: view.stages_ns,
        memory_kib: memory_kib(&fs::read_to_string("/proc/self/status")?),
    })
}

impl PolledView {
    fn start(vcpus: u32, made_up_times: bool) -> Result<Self> {
        let guests = discover::find_all()?.vms.into_iter().filter(|vm| vm.matches(VMM));
        let guests: BTreeMap<u32, Vm> = guests.map(|vm| (vm.pid, vm)).collect();
        ensure!(!guests.is_empty(), "no {VMM} is running");
        let pids: BTreeSet<u32> = guests.keys().copied().collect();
        let options = ProbeOptions {
            max_vcpus: vcpus,
            pids: Some(pids),
            timing: Timing::All,
            events: Event::ALL.into(),
            sampled: false,
            slow: None,
        };
        let probe = Probe::start(&AttachPlan::make(Tracepoints::Auto)?, &options)?;
        Ok(Self {
            probe,
            host: host::current(),
            reasons: host::reason_names(),
            guests,
            last: Snapshot::default(),
            made_up_times,
            made_up_ns: 0,
            stages_ns: PollStages::new(),
        })
    }

    fn poll(&mut self) -> Result<PollFigures> {
        let on_screen = *self.guests.keys().next().context("no VM")?;
        let mut now = self.timed("read", |view| view.probe.snapshot(|pid| pid == on_screen))?;
        if self.made_up_times {
            let start = cpu_ns();
            made_up::add_times(&mut now);
            self.made_up_ns += cpu_ns() - start;
        }
        let interval = self.timed("subtract", |view| Interval::between(&view.last, &now));
        let (measurement, mut report) = self.timed("build", |view| {
            let measurement = Measurement {
                version: VERSION.into(),
                host: view.host.clone(),
                start: Some(SystemTime::now() - Duration::from_nanos(interval.span_ns)),
                began: None,
                interrupted: false,
                timing: Timing::All,
                sampling: None,
                events: Event::ALL.into(),
                reasons: view.reasons.clone(),
                vms: view.guests.values().map(Vm::without_secrets).collect(),
                maps: BTreeMap::new(),
                interval,
                steps: Vec::new(),
            };
            let scope = Scope { vms: Selection::Vm(on_screen), ..Scope::default() };
            let report = finding::report(&measurement, scope);
            (measurement, report)
        });
        let vms = report.vms.len();
        report.vms.retain(|vm| vm.pid == on_screen);
        let options = TableOptions::default();
        let rendered =
            self.timed("render", |_| vmexit_view::render(report, &options, ReportFormat::Text))?;
        let rows =
            measurement.interval.vcpus.iter().map(|vcpu| vcpu.reasons.len() + vcpu.details.len());
        let figures = PollFigures {
            vms,
            busy_vcpus: rows.clone().filter(|&rows| rows > 0).count(),
            busy_rows: rows.sum(),
            rendered: rendered.len(),
        };
        self.timed("free", |view| {
            view.last = now;
            drop((measurement, rendered));
        });
        Ok(figures)
    }

    /// Runs some work and adds its CPU time to that of a stage.
    fn timed<T>(&mut self, stage: &'static str, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = cpu_ns();
        let result = work(self);
        *self.stages_ns.entry(stage).or_default() += cpu_ns() - start;
        result
    }
}

/// CPU time of all threads of this process so far, nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory in `/proc/PID/status` (`Documentation/filesystems/proc.rst`).
fn memory_kib(status: &str) -> BTreeMap<String, u64> {
    status
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim().strip_suffix(" kB")?.parse().ok()?;
            (name.starts_with("Rss") || ["VmRSS", "VmHWM"].contains(&name))
                .then(|| (name.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_status_memory_parses() {
        let status = "Name:\tx\nVmHWM:\t    9000 kB\nVmRSS:\t    8000 kB\nRssAnon:\t    7000 kB\n";
        let memory = memory_kib(status);
        assert_eq!((memory["VmHWM"], memory["VmRSS"], memory["RssAnon"]), (9_000, 8_000, 7_000));
        assert_eq!(memory.len(), 3);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let start = cpu_ns();
        let sum = (0..5_000_000u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        std::hint::black_box(sum);
        assert!(cpu_ns() > start);
    }
}
