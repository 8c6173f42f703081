//! Assessment of a VM: applies the rules to its tables.

use std::collections::BTreeMap;

use super::{
    Assessment, Confidence, Evidence, EvidenceRow, Figures, Finding, Healthy, Os, Pattern, Rule,
    Threshold, guest_os, rules,
};
use crate::{
    event::Event,
    report::{ExitReporting, Report, Scope, Stats, Tables, VmReport, per_second, percent},
    timing::Timing,
    vm::{self, Profile, Vmm},
};

/// Minimum number of exits of a finding: the standard error of a count of 400 random events is 5 %
/// (one in its square root).
pub const FEWEST_SAMPLES: u64 = 400;

/// Minimum cost of a finding, percent of a core: smaller differences occur between two captures of
/// the same guest.
pub const LEAST_CORE_PERCENT: f64 = 1.0;

/// Minimum rate of a finding where times are unknown; stands for [`LEAST_CORE_PERCENT`], as an exit
/// to QEMU takes about 10 µs.
pub const LEAST_PER_SECOND: f64 = 1_000.0;

/// Minimum number of timed exits for their time to be used: the mean of 100 durations whose
/// standard deviation equals the mean has a standard error of 10 %. With `--timing 1/N` many rows
/// have fewer.
const FEWEST_TIMED: u64 = 100;

/// Minimum share of the VM's exits for a healthy pattern to be listed, percent.
const LEAST_HEALTHY_PERCENT: f64 = 5.0;

/// Maximum number of evidence rows per finding; the tables have all.
const MOST_EVIDENCE: usize = 6;

/// A VM of a report and the input of its assessment.
pub(super) struct Assessed<'a> {
    vm: &'a VmReport,
    /// The VM's process; `None` if unknown.
    pub(super) guest: Option<&'a vm::Vm>,
    span_ns: u64,
    source: ExitReporting,
    timing: Timing,
}

/// A row that matches a rule.
struct MatchedRow {
    evidence: Evidence,
    /// Time of its exits, nanoseconds; 0 for waiting.
    ns: u64,
    timed: u64,
}

/// Sum of the rows that match a rule.
#[derive(Default)]
struct RuleSum {
    rows: Vec<MatchedRow>,
    figures: Figures,
    /// Cost, percent of a core; `None` if unknown.
    core_percent: Option<f64>,
}

/// Assesses those VMs of a report that have tables by `scope`, and fills in
/// [`VmReport::assessment`]. `guests` are the VMs of the measurement.
pub fn assess(report: &mut Report, guests: &[vm::Vm], scope: Scope) {
    let guests: BTreeMap<u32, &vm::Vm> = guests.iter().map(|guest| (guest.pid, guest)).collect();
    // Back from seconds to nanoseconds: exact for 100 days.
    let span_ns = (report.span.seconds * 1e9).round() as u64;
    for vm in report.vms.iter_mut().filter(|vm| scope.vms.includes(vm.pid)) {
        let guest = guests.get(&vm.pid).copied();
        let (source, timing) = (report.source, report.timing);
        vm.assessment = Assessed { vm, guest, span_ns, source, timing }.assess();
    }
}

impl Assessed<'_> {
    fn assess(&self) -> Assessment {
        let guest_os = guest_os::of(self);
        let (mut findings, mut healthy) = (Vec::new(), Vec::new());
        for rule in rules() {
            let sum = RuleSum::of(rule, self);
            if sum.figures.samples < FEWEST_SAMPLES {
                continue;
            }
            if self.is_finding(rule, &sum) {
                let cost = (sum.core_percent.unwrap_or(0.0), sum.figures.per_second);
                findings.push((cost, self.finding(rule, sum, guest_os.certain())));
            } else if let Some(fine) = rule.fine
                && sum.figures.exits_percent >= LEAST_HEALTHY_PERCENT
            {
                healthy.push(Healthy {
                    rule: rule.id,
                    title: rule.title,
                    figures: sum.figures,
                    fine,
                });
            }
        }
        findings.sort_by(|(one, _), (other, _)| {
            other.partial_cmp(one).unwrap_or(std::cmp::Ordering::Equal)
        });
        healthy.sort_by_key(|healthy| std::cmp::Reverse(healthy.figures.samples));
        Assessment {
            guest_os,
            findings: findings.into_iter().map(|(_, finding)| finding).collect(),
            healthy,
        }
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.vm.tables
    }

    /// Whether durations of exits are known.
    fn times(&self) -> bool {
        self.source == ExitReporting::Exits && self.timing != Timing::Off
    }

    /// Denominator of shares: the VM's exits; if KVM reports none, the events of all tables except
    /// userspace's, which counts the others' events again.
    fn samples(&self) -> u64 {
        if self.source == ExitReporting::Exits {
            return self.vm.total.samples;
        }
        let tables = self.vm.tables.details.iter().filter(|&(&event, _)| event != Event::Userspace);
        tables.flat_map(|(_, rows)| rows).map(|row| row.stats.samples).sum()
    }

    fn is_finding(&self, rule: &Rule, sum: &RuleSum) -> bool {
        let costs = match sum.core_percent {
            Some(percent) => percent >= LEAST_CORE_PERCENT,
            None => sum.figures.per_second >= LEAST_PER_SECOND,
        };
        match rule.threshold {
            Threshold::Cost => costs,
            Threshold::Core(least) => sum.core_percent.is_some_and(|percent| percent >= least),
            Threshold::PerVcpu(least) => {
                costs && sum.figures.per_second >= least * self.vm.vcpus.len().max(1) as f64
            }
            Threshold::Never => false,
        }
    }

    fn finding(&self, rule: &Rule, sum: RuleSum, os: Option<Os>) -> Finding {
        let unknown = Profile::default();
        let profile = self.guest.map_or(&unknown, |guest| &guest.profile);
        let is_qemu = self.guest.is_some_and(|guest| guest.vmm == Vmm::Qemu);
        let remedies = rule.remedies.iter().filter(|remedy| remedy.is_for(os));
        let needs_devices = rule.patterns.iter().any(Pattern::matches_unknown_device);
        let confidence = match (rule.confidence, sum.core_percent.is_some()) {
            (confidence, true) => confidence,
            (Confidence::High, false) => Confidence::Medium,
            (_, false) => Confidence::Low,
        };
        Finding {
            rule: rule.id,
            title: rule.title,
            figures: sum.figures,
            gain_core_percent: sum.core_percent,
            evidence: sum.rows.into_iter().map(|row| row.evidence).take(MOST_EVIDENCE).collect(),
            devices: profile.devices.iter().filter(|_| needs_devices).cloned().collect(),
            cause: rule.cause,
            remedies: remedies.map(|remedy| remedy.advice(profile, is_qemu)).collect(),
            confidence,
            sources: rule.sources,
        }
    }

    /// Figures of `samples` exits that took `handled_ns`; `None` for waiting.
    fn figures(&self, samples: u64, handled_ns: Option<u64>) -> Figures {
        Figures {
            samples,
            per_second: per_second(samples, self.span_ns),
            exits_percent: percent(samples, self.samples()),
            time_percent: handled_ns
                .filter(|_| self.times())
                .map(|ns| percent(ns, self.vm.total.handled_ns)),
        }
    }

    fn row(&self, row: EvidenceRow, stats: &Stats, waits: bool) -> MatchedRow {
        let handled_ns = (!waits).then_some(stats.total_ns);
        let figures = self.figures(stats.samples, handled_ns);
        MatchedRow {
            evidence: Evidence { row, figures },
            ns: handled_ns.unwrap_or(0),
            timed: stats.timed,
        }
    }

    fn exits(&self, rule: &Rule) -> Vec<MatchedRow> {
        let rows = self.vm.tables.exits.iter();
        rows.filter(|exit| {
            rule.patterns.iter().any(|pattern| pattern.matches_exit(exit, self.vm.vendor))
        })
        .map(|exit| {
            let row = EvidenceRow::Exit { reason: exit.reason.clone() };
            self.row(row, &exit.stats, exit.waits)
        })
        .collect()
    }

    fn details(&self, rule: &Rule) -> Vec<MatchedRow> {
        let rows = self.vm.tables.details.values().flatten();
        rows.filter(|row| {
            rule.patterns.iter().any(|pattern| pattern.matches_detail(row, self.vm.vendor))
        })
        .map(|row| self.row(EvidenceRow::Detail(row.subject.clone()), &row.stats, false))
        .collect()
    }
}

impl RuleSum {
    fn of(rule: &Rule, vm: &Assessed<'_>) -> Self {
        if rule.patterns.iter().any(Pattern::is_polling) {
            return Self::of_polling(vm);
        }
        let mut rows = vm.exits(rule);
        if rows.is_empty() {
            rows = vm.details(rule);
        }
        rows.retain(|row| row.evidence.figures.samples > 0);
        rows.sort_by_key(|row| std::cmp::Reverse((row.ns, row.evidence.figures.samples)));
        let samples = rows.iter().map(|row| row.evidence.figures.samples).sum();
        // The sum saturates: a file is untrusted.
        let ns = rows.iter().map(|row| row.ns).fold(0, u64::saturating_add);
        let waits = rows.iter().all(|row| row.evidence.figures.time_percent.is_none());
        let timed: u64 = rows.iter().map(|row| row.timed).sum();
        let known = vm.times() && timed >= FEWEST_TIMED;
        Self {
            rows,
            figures: vm.figures(samples, (known && !waits).then_some(ns)),
            core_percent: known.then(|| percent(ns, vm.span_ns)),
        }
    }

    /// Halts in which KVM polled: the part of the waiting time in which the CPU was busy.
    fn of_polling(vm: &Assessed<'_>) -> Self {
        let Some(halts) = vm.vm.total.halts else { return Self::default() };
        let mut figures = vm.figures(halts.polled, None);
        if vm.source != ExitReporting::Exits {
            // The denominator of shares does not include halts.
            figures.exits_percent = 0.0;
        }
        Self { rows: Vec::new(), figures, core_percent: Some(percent(halts.polled_ns, vm.span_ns)) }
    }
}
