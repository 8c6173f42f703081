//! Families of metrics, independent of the text format. Names, units and labels follow Prometheus's conventions
//! (<https://prometheus.io/docs/practices/naming/>).

use vmexit_core::{escape::safe, report::ExitReporting, sampling::SamplingCost};

use super::{AgentUsage, Labels, Totals, VmId, VmTotals};

/// Prefix of all names.
pub(super) const PREFIX: &str = "vmexit";

/// Series of a family: labels and value of each.
pub(super) type Series = Vec<(Labels, SeriesValue)>;

/// All series of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// Name without [`PREFIX`], unit and `_total`.
    pub name: &'static str,
    /// Description without its full stop.
    pub help: &'static str,
    /// Type of the metric.
    pub kind: FamilyType,
    /// Whether the unit is seconds; otherwise the family has no unit.
    pub seconds: bool,
    /// Labels and value of each series.
    pub series: Series,
}

/// Type of a metric, in Prometheus's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FamilyType {
    Counter,
    Gauge,
    Histogram,
}

/// Value of a series.
#[derive(Clone, Debug)]
pub(super) enum SeriesValue {
    /// An integer.
    Count(u64),
    /// A number of seconds or a ratio.
    Number(f64),
    /// Sum and number of observations; upper bound and number of observations of each bucket, not cumulative.
    Distribution { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl Family {
    fn counter(name: &'static str, help: &'static str, series: Series) -> Self {
        Self { name, help, kind: FamilyType::Counter, seconds: false, series }
    }

    fn gauge(name: &'static str, help: &'static str, series: Series) -> Self {
        Self { name, help, kind: FamilyType::Gauge, seconds: false, series }
    }

    fn seconds(self) -> Self {
        Self { seconds: true, ..self }
    }
}

/// All families, in output order.
pub(super) fn families(totals: &Totals, own: AgentUsage) -> Vec<Family> {
    let mut families = vm_families(totals);
    families.extend(host_families(totals));
    families.extend([
        Family::counter("agent_cpu", "CPU time of the agent", unlabelled(own.cpu_seconds))
            .seconds(),
        Family::gauge(
            "agent_resident_bytes",
            "Resident memory of the agent",
            unlabelled(own.resident_bytes),
        ),
    ]);
    families
}

fn vm_families(totals: &Totals) -> Vec<Family> {
    let info = |vm: &VmTotals, labels: &Labels| -> Series {
        let about = |pid: &u32| {
            let more =
                [("pid", pid.to_string()), ("vmm", safe(&vm.vmm)), ("machine", safe(&vm.machine))];
            (with(labels, more), SeriesValue::Count(1))
        };
        vm.pids.iter().map(about).collect()
    };
    let findings = |vm: &VmTotals, labels: &Labels| -> Series {
        let finding =
            |rule: &&str| (with(labels, [("rule", (*rule).to_owned())]), SeriesValue::Count(1));
        vm.findings.iter().map(finding).collect()
    };
    let exits = |vm: &VmTotals, labels: &Labels| -> Series {
        let exit = |(reason, exit): (&String, &(super::SeriesSum, bool))| {
            (with(labels, [("reason", safe(reason))]), SeriesValue::Count(exit.0.samples))
        };
        vm.exits.iter().map(exit).collect()
    };
    let times = |waiting: bool| {
        move |vm: &VmTotals, labels: &Labels| -> Series {
            let of_kind = vm.exits.iter().filter(|(_, (_, waits))| *waits == waiting);
            of_kind
                .map(|(reason, (sum, _))| {
                    (with(labels, [("reason", safe(reason))]), SeriesValue::Number(sum.seconds()))
                })
                .collect()
        }
    };
    let one = |value: fn(&VmTotals) -> SeriesValue| {
        move |vm: &VmTotals, labels: &Labels| vec![(labels.clone(), value(vm))]
    };
    let rows = |value: fn(super::SeriesSum) -> SeriesValue| {
        move |vm: &VmTotals, labels: &Labels| -> Series {
            let tables = vm.details.iter();
            tables
                .flat_map(|(event, rows)| {
                    let labels = with(labels, [("event", event.to_string())]);
                    rows.series().map(move |(row, sum)| (with(&labels, row), value(sum)))
                })
                .collect()
        }
    };
    let each = |series: &dyn Fn(&VmTotals, &Labels) -> Series| {
        totals.vms.iter().flat_map(|(id, vm)| series(vm, &labels(id))).collect()
    };
    vec![
        Family::gauge("vm_info", "1 while the VM runs", each(&info)),
        Family::gauge(
            "vm_vcpus",
            "vCPU threads in the last interval",
            each(&one(|vm| SeriesValue::Count(vm.vcpus as u64))),
        ),
        Family::gauge(
            "vm_finding",
            "1 while a rule of docs/findings.md has a finding in the last interval",
            each(&findings),
        ),
        Family::counter("exits", "VM exits by reason", each(&exits)),
        Family::counter(
            "handled",
            "Time from exit to entry by reason, without waiting",
            each(&times(false)),
        )
        .seconds(),
        Family::counter(
            "waiting",
            "Time from exit to entry by reason in which the vCPU had halted, which is no cost",
            each(&times(true)),
        )
        .seconds(),
        Family::counter(
            "userspace",
            "Part of the handled time in which userspace had the vCPU",
            each(&one(|vm| SeriesValue::Number(vm.userspace_ns as f64 / 1e9))),
        )
        .seconds(),
        Family::counter(
            "polled",
            "Part of the waiting time in which KVM polled, which keeps a CPU busy",
            each(&one(|vm| SeriesValue::Number(vm.polled_ns as f64 / 1e9))),
        )
        .seconds(),
        Family {
            name: "exit_duration",
            help: "Time from exit to entry of the exits that were timed, without waiting",
            kind: FamilyType::Histogram,
            seconds: true,
            series: each(&one(|vm| SeriesValue::Distribution {
                sum: vm.handled.seconds(),
                count: vm.handled.count(),
                buckets: vm.handled.buckets(),
            })),
        },
        Family::counter(
            "accesses",
            "Exits by port, address, register and other details; a bounded number of rows, the rest as \
             number=\"other\"",
            each(&rows(|sum| SeriesValue::Count(sum.samples))),
        ),
        Family::counter(
            "access",
            "Time from exit to entry by port, address, register and other details",
            each(&rows(|sum| SeriesValue::Number(sum.seconds()))),
        )
        .seconds(),
    ]
}

fn host_families(totals: &Totals) -> Vec<Family> {
    let lost = &totals.lost;
    let causes = [
        ("no_entry", lost.no_entry),
        ("vcpu_limit", lost.vcpu_limit),
        ("vcpu_table_full", lost.vcpu_table_full),
        ("unreadable", lost.unreadable),
        ("unmatched", totals.unmatched_lost),
    ];
    let causes =
        causes.map(|(cause, count)| (vec![("cause", cause.to_owned())], SeriesValue::Count(count)));
    let missed = totals.missed.iter();
    let missed =
        missed.map(|(name, &count)| (vec![("tracepoint", safe(name))], SeriesValue::Count(count)));
    let ratio =
        |percent: Option<f64>| percent.map_or_else(Vec::new, |percent| unlabelled(percent / 100.0));
    let sampling = totals.sampling.as_ref();
    vec![
        Family::counter("observed", "Exits observed, of all VMs", unlabelled(totals.observed)),
        Family::counter(
            "lost",
            "Exits observed but not recorded, by cause; unmatched: events without an exit, of vCPUs \
             beyond --max-vcpus",
            causes.into(),
        ),
        Family::counter(
            "missed",
            "Events for which the kernel skipped the program, by tracepoint, as the kernel counts them",
            missed.collect(),
        ),
        Family::counter(
            "unmatched_events",
            "Events without an exit in flight",
            unlabelled(totals.unmatched),
        ),
        Family::gauge(
            "silent",
            "1 if this host's KVM reports events but no exits, so that only events are counted",
            unlabelled(u64::from(totals.source == Some(ExitReporting::Silent))),
        ),
        Family::counter("intervals", "Readings of the counters", unlabelled(totals.intervals)),
        Family::counter(
            "watched",
            "Time in which exits were counted",
            unlabelled(totals.watched_seconds),
        )
        .seconds(),
        Family::counter(
            "unwatched",
            "Time in which exits were not counted, for which sums are extrapolated",
            unlabelled(totals.unwatched_seconds),
        )
        .seconds(),
        Family::gauge(
            "timed_ratio",
            "Share of exits that were timed in the last interval",
            unlabelled(totals.timed_ratio),
        ),
        Family::gauge(
            "budget_ratio",
            "Budget of measuring (--budget), as a share of the CPU time of the VMs",
            ratio(sampling.map(|sampling| sampling.budget_percent)),
        ),
        Family::gauge(
            "cost_ratio",
            "Cost of measuring in the last interval, kernel side and agent, as a share of the CPU time of the VMs",
            ratio(sampling.and_then(SamplingCost::percent)),
        ),
    ]
}

/// A single series without labels.
fn unlabelled(value: impl Into<SeriesValue>) -> Series {
    vec![(Labels::new(), value.into())]
}

impl From<u64> for SeriesValue {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for SeriesValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

fn labels(id: &VmId) -> Labels {
    vec![("vm", safe(&id.name)), ("uuid", safe(&id.uuid)), ("domain", safe(&id.domain))]
}

fn with(labels: &Labels, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
    labels.iter().cloned().chain(more).collect()
}
