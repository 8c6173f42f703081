//! What has been counted since the agent began, for Prometheus: a report for each interval comes in, sums
//! that only grow go out, by VM. [`expose`] writes them.
//!
//! Rows of details are as many as guests like, series must be few: see [`MOST_ROWS`].

mod classic;
mod exposition;
mod families;
mod histogram;
mod open_metrics;
mod rows;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use vmexit_core::{
    event::Event,
    report::{ExitReporting, Lost, Report, Stats, VmReport},
    sampling::SamplingCost,
    vm,
};

pub use self::{
    exposition::{AgentUsage, Exposition, ExpositionError, expose},
    rows::MOST_ROWS,
};
use self::{histogram::Histogram, rows::Rows};

/// Series of a VM that has ended stay for so long: the last scrape is to have its last exits.
const STAYS: Duration = Duration::from_secs(300);

/// VmId a VM is: what its series are told apart by. One that comes back continues them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmId {
    /// Its name: unescaped.
    pub name: String,
    /// Its UUID, if it has one.
    pub uuid: String,
    /// Its name again, if libvirt started it.
    pub domain: String,
}

impl VmId {
    fn of(vm: &VmReport, guest: Option<&vm::Vm>) -> Self {
        let uuid = guest.and_then(|guest| guest.uuid.clone()).unwrap_or_default();
        let domain = guest.filter(|guest| guest.libvirt).map(|guest| guest.name.clone());
        Self { name: vm.name.clone(), uuid, domain: domain.unwrap_or_default() }
    }
}

/// Labels of a series.
type Labels = Vec<(&'static str, String)>;

/// Exits or events, and their time.
#[derive(Clone, Copy, Debug, Default)]
struct SeriesSum {
    samples: u64,
    ns: u64,
}

impl SeriesSum {
    /// As many times over as there was time for each second that was watched.
    fn of(stats: &Stats, scale: f64) -> Self {
        Self { samples: scaled(stats.samples, scale), ns: scaled(stats.total_ns, scale) }
    }

    fn add(&mut self, other: Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.ns = self.ns.saturating_add(other.ns);
    }

    fn seconds(self) -> f64 {
        self.ns as f64 / 1e9
    }
}

fn scaled(number: u64, scale: f64) -> u64 {
    if scale == 1.0 { number } else { (number as f64 * scale).round() as u64 }
}

/// What one VM has done.
#[derive(Clone, Debug, Default)]
struct VmTotals {
    pids: Vec<u32>,
    vcpus: usize,
    vmm: String,
    machine: String,
    /// By exit reason, and whether that is waiting.
    exits: BTreeMap<String, (SeriesSum, bool)>,
    handled: Histogram,
    userspace_ns: u64,
    polled_ns: u64,
    details: BTreeMap<Event, Rows>,
    findings: Vec<&'static str>,
    seen: Option<Instant>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    vms: BTreeMap<VmId, VmTotals>,
    observed: u64,
    lost: Lost,
    unmatched: u64,
    unmatched_lost: u64,
    missed: BTreeMap<String, u64>,
    source: Option<ExitReporting>,
    intervals: u64,
    watched_seconds: f64,
    unwatched_seconds: f64,
    timed_ratio: f64,
    sampling: Option<SamplingCost>,
}

impl Totals {
    /// Adds an interval, and forgets VMs that have ended some time ago.
    pub fn add(&mut self, report: &Report, guests: &[vm::Vm], now: Instant) {
        let span = &report.span;
        self.watched_seconds += span.seconds;
        self.unwatched_seconds += span.unwatched_seconds;
        self.timed_ratio = report.timing.ratio();
        self.sampling = report.sampling;
        let scale = if span.seconds > 0.0 { span.length() / span.seconds } else { 1.0 };
        for vm in self.vms.values_mut() {
            vm.pids.clear();
            vm.findings.clear();
        }
        for vm in &report.vms {
            let guest = guests.iter().find(|guest| guest.pid == vm.pid);
            self.vms.entry(VmId::of(vm, guest)).or_default().add(vm, guest, scale, now);
        }
        self.vms.retain(|_, vm| vm.seen.is_some_and(|seen| now.duration_since(seen) < STAYS));
        let accounting = &report.accounting;
        self.observed += accounting.observed;
        self.unmatched += accounting.unmatched;
        self.unmatched_lost += accounting.unmatched_lost;
        let (sum, lost) = (&mut self.lost, &accounting.lost);
        sum.no_entry += lost.no_entry;
        sum.vcpu_limit += lost.vcpu_limit;
        sum.vcpu_table_full += lost.vcpu_table_full;
        sum.unreadable += lost.unreadable;
        for (tracepoint, missed) in &accounting.missed {
            *self.missed.entry(tracepoint.clone()).or_default() += missed;
        }
        // A host that is silent for an interval is not silent for good, and the other way round.
        if report.source != ExitReporting::Nothing {
            self.source = Some(report.source);
        }
        self.intervals += 1;
    }
}

impl VmTotals {
    fn add(&mut self, vm: &VmReport, guest: Option<&vm::Vm>, scale: f64, now: Instant) {
        self.pids.push(vm.pid);
        self.vcpus = vm.vcpus.len();
        if let Some(guest) = guest {
            self.vmm = guest.vmm.title().to_owned();
            self.machine = guest.machine.name().unwrap_or_default().to_owned();
        }
        for exit in &vm.tables.exits {
            let (sum, waits) = self.exits.entry(exit.reason.clone()).or_default();
            sum.add(SeriesSum::of(&exit.stats, scale));
            *waits = exit.waits;
            if !exit.waits {
                self.handled.add(&exit.stats);
            }
        }
        self.userspace_ns += scaled(vm.total.userspace_ns.unwrap_or(0), scale);
        self.polled_ns += scaled(vm.total.halts.map_or(0, |halts| halts.polled_ns), scale);
        for (&event, rows) in &vm.tables.details {
            self.details.entry(event).or_default().add(rows, scale);
        }
        self.findings.extend(vm.assessment.findings.iter().map(|finding| finding.rule));
        self.seen = Some(now);
    }
}
