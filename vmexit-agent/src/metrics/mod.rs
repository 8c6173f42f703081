//! What has been counted since the agent began, for Prometheus: a report for each interval comes in, sums
//! that only grow go out, by VM. [`expose`] writes them.
//!
//! Rows of details are as many as guests like, series must be few: see [`MOST_ROWS`].

mod classic;
mod exposition;
mod histogram;
mod rows;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub use self::{
    exposition::{Exposition, Own, expose},
    rows::MOST_ROWS,
};
use self::{histogram::Histogram, rows::Rows};
use crate::{
    guest,
    model::{Lost, Report, Source, Stats, Vm},
    probe::Event,
};

/// Series of a VM that has ended stay for so long: the last scrape is to have its last exits.
const STAYS: Duration = Duration::from_secs(300);

/// Who a VM is: what its series are told apart by. One that comes back continues them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// Its name: unescaped.
    pub name: String,
    /// Its UUID, if it has one.
    pub uuid: String,
    /// Its name again, if libvirt started it.
    pub domain: String,
}

impl Who {
    fn of(vm: &Vm, guest: Option<&guest::Vm>) -> Self {
        let uuid = guest.and_then(|guest| guest.uuid.clone()).unwrap_or_default();
        let domain = guest.filter(|guest| guest.libvirt).map(|guest| guest.name.clone());
        Self { name: vm.name.clone(), uuid, domain: domain.unwrap_or_default() }
    }
}

/// Exits or events, and their time.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    samples: u64,
    ns: u64,
}

impl Sum {
    fn of(stats: &Stats) -> Self {
        Self { samples: stats.samples, ns: stats.total_ns }
    }

    fn add(&mut self, other: Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.ns = self.ns.saturating_add(other.ns);
    }

    fn seconds(self) -> f64 {
        self.ns as f64 / 1e9
    }
}

/// What one VM has done.
#[derive(Clone, Debug, Default)]
struct VmTotals {
    pids: Vec<u32>,
    vcpus: usize,
    vmm: String,
    machine: String,
    /// By exit reason, and whether that is waiting.
    exits: BTreeMap<String, (Sum, bool)>,
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
    vms: BTreeMap<Who, VmTotals>,
    observed: u64,
    lost: Lost,
    stray: u64,
    stray_lost: u64,
    missed: BTreeMap<String, u64>,
    source: Option<Source>,
    intervals: u64,
}

impl Totals {
    /// Adds an interval, and forgets VMs that have ended some time ago.
    pub fn add(&mut self, report: &Report, guests: &BTreeMap<u32, guest::Vm>, now: Instant) {
        for vm in self.vms.values_mut() {
            vm.pids.clear();
            vm.findings.clear();
        }
        for vm in &report.vms {
            let guest = guests.get(&vm.pid);
            self.vms.entry(Who::of(vm, guest)).or_default().add(vm, guest, now);
        }
        self.vms.retain(|_, vm| vm.seen.is_some_and(|seen| now.duration_since(seen) < STAYS));
        let accounting = &report.accounting;
        self.observed += accounting.observed;
        self.stray += accounting.stray;
        self.stray_lost += accounting.stray_lost;
        let (sum, lost) = (&mut self.lost, &accounting.lost);
        sum.no_entry += lost.no_entry;
        sum.no_book += lost.no_book;
        sum.no_vcpu_entry += lost.no_vcpu_entry;
        sum.unreadable += lost.unreadable;
        for (tracepoint, missed) in &accounting.missed {
            *self.missed.entry(tracepoint.clone()).or_default() += missed;
        }
        // A host that is silent for an interval is not silent for good, and the other way round.
        if report.source != Source::Nothing {
            self.source = Some(report.source);
        }
        self.intervals += 1;
    }
}

impl VmTotals {
    fn add(&mut self, vm: &Vm, guest: Option<&guest::Vm>, now: Instant) {
        self.pids.push(vm.pid);
        self.vcpus = vm.vcpus.len();
        if let Some(guest) = guest {
            self.vmm = guest.vmm.title().to_owned();
            self.machine = guest.machine.name().unwrap_or_default().to_owned();
        }
        for exit in &vm.tables.exits {
            let (sum, waits) = self.exits.entry(exit.reason.clone()).or_default();
            sum.add(Sum::of(&exit.stats));
            *waits = exit.waits;
            if !exit.waits {
                self.handled.add(&exit.stats);
            }
        }
        self.userspace_ns += vm.total.userspace_ns.unwrap_or(0);
        self.polled_ns += vm.total.halts.map_or(0, |halts| halts.polled_ns);
        for (&event, rows) in &vm.tables.details {
            self.details.entry(event).or_default().add(rows);
        }
        self.findings.extend(vm.assessment.findings.iter().map(|finding| finding.rule));
        self.seen = Some(now);
    }
}
