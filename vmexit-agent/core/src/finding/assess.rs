//! Rules held against one VM.

use std::collections::BTreeMap;

use super::{
    Assessment, Confidence, Evidence, EvidenceRow, Figures, Finding, Healthy, Least, Os, Pattern,
    Rule, guest_os, rules,
};
use crate::{
    event::Event,
    report::{ExitReporting, Report, Scope, Stats, Tables, VmReport, per_second, percent},
    timing::Timing,
    vm::{self, Profile, Vmm},
};

/// Fewer exits support nothing: the standard error of a count of 400 events that come by chance is 5 %
/// (one in its square root).
pub const FEWEST_SAMPLES: u64 = 400;

/// What costs less of a core, percent, is not worth a change: it is within what two captures of the same
/// guest differ by.
pub const LEAST_CORE_PERCENT: f64 = 1.0;

/// What stands for [`LEAST_CORE_PERCENT`] where no time is known: an exit to QEMU takes some 10 µs.
pub const LEAST_PER_SECOND: f64 = 1_000.0;

/// Fewer timed exits say little about what all of them took: the mean of 100 that scatter as much as it is
/// long has a standard error of 10 %. With `--timing 1/N` many rows have fewer.
const FEWEST_TIMED: u64 = 100;

/// What is busy and fine is listed from this share of the VM's exits on, percent.
const LEAST_HEALTHY_PERCENT: f64 = 5.0;

/// Rows of evidence that a finding has at most: the rest is in the tables.
const MOST_EVIDENCE: usize = 6;

/// A VM of a report and what its rules are held against.
pub(super) struct Assessed<'a> {
    vm: &'a VmReport,
    /// What is known of the VM beside its exits.
    pub(super) guest: Option<&'a vm::Vm>,
    span_ns: u64,
    source: ExitReporting,
    timing: Timing,
}

/// A row that counts.
struct MatchedRow {
    evidence: Evidence,
    /// The time of its exits; 0 if that is waiting.
    ns: u64,
    timed: u64,
}

/// Some rows, as one.
#[derive(Default)]
struct RuleSum {
    rows: Vec<MatchedRow>,
    figures: Figures,
    /// `None` where it is not known.
    core_percent: Option<f64>,
}

/// Assesses the VMs of a report that have tables by its `scope`: fills in [`VmReport::assessment`]. `guests` are the VMs of the
/// measurement.
pub fn assess(report: &mut Report, guests: &[vm::Vm], scope: Scope) {
    let guests: BTreeMap<u32, &vm::Vm> = guests.iter().map(|guest| (guest.pid, guest)).collect();
    // Nanoseconds were turned into seconds: exact for 100 days.
    let span_ns = (report.span.seconds * 1e9).round() as u64;
    for vm in report.vms.iter_mut().filter(|vm| scope.vms.includes(vm.pid)) {
        let guest = guests.get(&vm.pid).copied();
        let (source, timing) = (report.source, report.timing);
        vm.assessment = Assessed { vm, guest, span_ns, source, timing }.assess();
    }
}

impl Assessed<'_> {
    fn assess(&self) -> Assessment {
        let scene = self;
        let guest_os = guest_os::of(scene);
        let (mut findings, mut healthy) = (Vec::new(), Vec::new());
        for rule in rules() {
            let sum = RuleSum::of(rule, scene);
            if sum.figures.samples < FEWEST_SAMPLES {
                continue;
            }
            if scene.is_finding(rule, &sum) {
                let cost = (sum.core_percent.unwrap_or(0.0), sum.figures.per_second);
                findings.push((cost, scene.finding(rule, sum, guest_os.certain())));
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

    /// Whether it is known how long exits took.
    fn times(&self) -> bool {
        self.source == ExitReporting::Exits && self.timing != Timing::Off
    }

    /// What shares are shares of: exits; where there are none, the events of all tables but userspace's,
    /// which has the others' again.
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
        match rule.least {
            Least::Cost => costs,
            Least::Core(least) => sum.core_percent.is_some_and(|percent| percent >= least),
            Least::PerVcpu(least) => {
                costs && sum.figures.per_second >= least * self.vm.vcpus.len().max(1) as f64
            }
            Least::Never => false,
        }
    }

    fn finding(&self, rule: &Rule, sum: RuleSum, os: Option<Os>) -> Finding {
        let unknown = Profile::default();
        let profile = self.guest.map_or(&unknown, |guest| &guest.profile);
        let is_qemu = self.guest.is_some_and(|guest| guest.vmm == Vmm::Qemu);
        let remedies = rule.remedies.iter().filter(|remedy| remedy.is_for(os));
        let devices = rule.patterns.iter().any(Pattern::is_of_unknown_device);
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
            devices: profile.devices.iter().filter(|_| devices).cloned().collect(),
            cause: rule.cause,
            remedies: remedies.map(|remedy| remedy.advice(profile, is_qemu)).collect(),
            confidence,
            sources: rule.sources,
        }
    }

    /// The figures of something that took so long; `None` for waiting.
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
            rule.patterns.iter().any(|pattern| pattern.is_exit(exit, self.vm.vendor))
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
            rule.patterns.iter().any(|pattern| pattern.is_detail(row, self.vm.vendor))
        })
        .map(|row| self.row(EvidenceRow::Detail(row.subject.clone()), &row.stats, false))
        .collect()
    }
}

impl RuleSum {
    fn of(rule: &Rule, scene: &Assessed<'_>) -> Self {
        if rule.patterns.iter().any(Pattern::is_polling) {
            return Self::of_polling(scene);
        }
        let mut rows = scene.exits(rule);
        if rows.is_empty() {
            rows = scene.details(rule);
        }
        rows.retain(|row| row.evidence.figures.samples > 0);
        rows.sort_by_key(|row| std::cmp::Reverse((row.ns, row.evidence.figures.samples)));
        let samples = rows.iter().map(|row| row.evidence.figures.samples).sum();
        // A file can say anything.
        let ns = rows.iter().map(|row| row.ns).fold(0, u64::saturating_add);
        let waits = rows.iter().all(|row| row.evidence.figures.time_percent.is_none());
        let timed: u64 = rows.iter().map(|row| row.timed).sum();
        let known = scene.times() && timed >= FEWEST_TIMED;
        Self {
            rows,
            figures: scene.figures(samples, (known && !waits).then_some(ns)),
            core_percent: known.then(|| percent(ns, scene.span_ns)),
        }
    }

    /// Halts in which KVM polled: a part of the waiting, which keeps the CPU busy.
    fn of_polling(scene: &Assessed<'_>) -> Self {
        let Some(halts) = scene.vm.total.halts else { return Self::default() };
        let mut figures = scene.figures(halts.polled, None);
        if scene.source != ExitReporting::Exits {
            // Halts are none of the events that shares are shares of.
            figures.exits_percent = 0.0;
        }
        Self {
            rows: Vec::new(),
            figures,
            core_percent: Some(percent(halts.polled_ns, scene.span_ns)),
        }
    }
}
