//! Metrics for Prometheus. [`Totals`] sums the reports of all intervals since the agent started, per VM, and
//! [`expose`] writes the sums as text.
//!
//! A guest determines how many rows a table of details has. [`MOST_ROWS`] limits the number of series.

mod classic;
mod exposition;
mod families;
mod histogram;
mod open_metrics;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use vmexit_core::{
    escape::safe,
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

/// Time for which the series of an ended VM are kept, so that a scrape gets its last exits.
const RETENTION: Duration = Duration::from_secs(300);

/// Identity of a VM in the metrics. A VM with the identity of an earlier one continues its series.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmId {
    /// Name as displayed.
    pub name: String,
    /// UUID; empty for a VM without one.
    pub uuid: String,
    /// Name of the libvirt domain; empty for a VM that libvirt did not start.
    pub domain: String,
}

impl VmId {
    fn of(vm: &VmReport, guest: Option<&vm::Vm>) -> Self {
        // Two names that are displayed alike must not make two series with the same labels: Prometheus would reject
        // the whole scrape.
        let uuid = guest.and_then(|guest| guest.uuid.as_deref()).map(safe);
        let domain = guest.filter(|guest| guest.libvirt).map(|guest| safe(&guest.name));
        Self {
            name: safe(&vm.name),
            uuid: uuid.unwrap_or_default(),
            domain: domain.unwrap_or_default(),
        }
    }
}

/// Labels of a series: names and values.
type Labels = Vec<(&'static str, String)>;

/// Number of exits or events and the sum of their durations.
#[derive(Clone, Copy, Debug, Default)]
struct SeriesSum {
    samples: u64,
    ns: u64,
}

impl SeriesSum {
    /// Figures of a row, multiplied by `scale`.
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

/// Sums of one VM.
#[derive(Clone, Debug, Default)]
struct VmTotals {
    /// Processes of the last interval: several if VMs share a name and have no UUID.
    pids: Vec<u32>,
    vcpus: usize,
    vmm: String,
    machine: String,
    /// By exit reason; the flag is set if the vCPU waits in it.
    exits: BTreeMap<String, (SeriesSum, bool)>,
    handled: Histogram,
    userspace_ns: u64,
    polled_ns: u64,
    details: BTreeMap<Event, Rows>,
    /// Rules with a finding in the last interval.
    findings: BTreeSet<&'static str>,
    /// End of the last interval with the VM.
    seen: Option<Instant>,
}

/// Sums over all intervals since the agent started.
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
    /// Adds the report of an interval that ended at `now`, and drops VMs that ended five minutes ago or earlier.
    /// `guests` are the VMs that were found in the interval.
    pub fn add(&mut self, report: &Report, guests: &[vm::Vm], now: Instant) {
        let span = &report.span;
        self.watched_seconds += span.seconds;
        self.unwatched_seconds += span.unwatched_seconds;
        self.timed_ratio = report.timing.ratio();
        self.sampling = report.sampling;
        // Counts of a sampled interval stand for all of its time.
        let scale = if span.seconds > 0.0 { span.length() / span.seconds } else { 1.0 };
        for vm in self.vms.values_mut() {
            vm.pids.clear();
            vm.findings.clear();
        }
        for vm in &report.vms {
            let guest = guests.iter().find(|guest| guest.pid == vm.pid);
            self.vms.entry(VmId::of(vm, guest)).or_default().add(vm, guest, scale, now);
        }
        self.vms.retain(|_, vm| vm.seen.is_some_and(|seen| now.duration_since(seen) < RETENTION));
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
        // An interval without events does not tell whether this host's KVM reports exits.
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
