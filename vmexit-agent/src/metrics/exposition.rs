//! The sums as OpenMetrics text, by names and units of Prometheus's conventions.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{Sum, Totals, VmTotals, Who, classic::classic};
use crate::{
    model::{Sampling, Source},
    view::safe,
};

/// What the agent itself takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// CPU time, user and system, seconds.
    pub cpu_seconds: f64,
    /// Memory, bytes.
    pub resident_bytes: u64,
}

/// All sums, in the two formats that Prometheus reads.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// OpenMetrics, version 1.0.0.
    pub open: String,
    /// Prometheus's own, version 0.0.4.
    pub classic: String,
}

/// Writes all of it.
///
/// # Errors
/// None that is known: a string takes all that is written to it.
pub fn expose(totals: &Totals, own: Own) -> Result<Exposition, fmt::Error> {
    let mut registry = Registry::with_prefix("vmexit");
    registry.register_collector(Box::new(Exposed { totals: totals.clone(), own }));
    let mut open = String::new();
    encode(&mut open, &registry)?;
    let classic = classic(&open);
    Ok(Exposition { open, classic })
}

type Labels = Vec<(&'static str, String)>;

/// As the library wants it.
#[derive(Debug)]
struct Exposed {
    totals: Totals,
    own: Own,
}

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families { encoder: &mut encoder };
        self.vms(&mut out)?;
        self.exits(&mut out)?;
        self.details(&mut out)?;
        self.host(&mut out)
    }
}

impl Exposed {
    fn each_vm<'a, T, I: Iterator<Item = (Labels, T)>>(
        &'a self,
        series: impl Fn(&'a VmTotals, Labels) -> I,
    ) -> impl Iterator<Item = (Labels, T)> {
        self.totals.vms.iter().flat_map(move |(who, vm)| series(vm, labels(who)))
    }

    fn vms(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let info = self.each_vm(|vm, labels| {
            vm.pids.iter().map(move |pid| {
                let about = [
                    ("pid", pid.to_string()),
                    ("vmm", safe(&vm.vmm)),
                    ("machine", safe(&vm.machine)),
                ];
                (with(&labels, about), 1_u64)
            })
        });
        out.gauge("vm_info", "Runs: 1", info)?;
        let vcpus = self.each_vm(|vm, labels| [(labels, vm.vcpus as u64)].into_iter());
        out.gauge("vm_vcpus", "vCPU threads that were seen in the last interval", vcpus)?;
        let findings = self.each_vm(|vm, labels| {
            vm.findings
                .iter()
                .map(move |rule| (with(&labels, [("rule", (*rule).to_owned())]), 1_u64))
        });
        out.gauge(
            "vm_finding",
            "Worth a change in the last interval: 1; docs/findings.md has the rules",
            findings,
        )
    }

    fn exits(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let exits = self.each_vm(|vm, labels| {
            vm.exits.iter().map(move |(reason, (sum, _))| {
                (with(&labels, [("reason", safe(reason))]), sum.samples)
            })
        });
        out.counter("exits", "VM exits by reason", None, exits)?;
        let seconds = |waiting: bool| {
            self.each_vm(move |vm, labels| {
                let of_kind = vm.exits.iter().filter(move |(_, (_, waits))| *waits == waiting);
                of_kind.map(move |(reason, (sum, _))| {
                    (with(&labels, [("reason", safe(reason))]), sum.seconds())
                })
            })
        };
        let help = "Time from exit to entry, but for waiting, by reason";
        out.counter("handled", help, Some(Unit::Seconds), seconds(false))?;
        let help = "Time from exit to entry in which the vCPU had halted, by reason: no cost";
        out.counter("waiting", help, Some(Unit::Seconds), seconds(true))?;
        let one = |ns: fn(&VmTotals) -> u64| {
            self.each_vm(move |vm, labels| [(labels, ns(vm) as f64 / 1e9)].into_iter())
        };
        let help = "The part of the handled time in which userspace had the vCPU";
        out.counter("userspace", help, Some(Unit::Seconds), one(|vm| vm.userspace_ns))?;
        let help = "The part of the waiting in which KVM polled, which keeps a CPU busy";
        out.counter("polled", help, Some(Unit::Seconds), one(|vm| vm.polled_ns))?;
        let mut metric = out.encoder.encode_descriptor(
            "exit_duration",
            "How long exits took, from exit to entry, but for waiting: those that were timed",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (who, vm) in &self.totals.vms {
            let (labels, handled) = (labels(who), &vm.handled);
            let mut metric = metric.encode_family(&labels)?;
            let (sum, count, buckets) = (handled.seconds(), handled.count(), handled.buckets());
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn details(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let series = || {
            self.each_vm(|vm, labels| {
                vm.details.iter().flat_map(move |(event, rows)| {
                    let labels = with(&labels, [("event", event.to_string())]);
                    let row = move |what: &str, direction: &str, name: &str, sum| {
                        let row = [("what", what), ("direction", direction), ("name", name)];
                        (with(&labels, row.map(|(label, value)| (label, safe(value)))), sum)
                    };
                    let others = rows.others().map(|sum| row("other", "", "", sum));
                    let own = rows.own().map(move |(key, series)| {
                        row(&key.what, key.direction, &series.name, series.sum)
                    });
                    own.chain(others)
                })
            })
        };
        let help = "What exits were for: ports, addresses, registers and the like; a bounded number of them, and all others as 'other'";
        let samples = series().map(|(labels, sum): (Labels, Sum)| (labels, sum.samples));
        out.counter("accesses", help, None, samples)?;
        let help = "Time from exit to entry of the exits that were for it";
        let seconds = series().map(|(labels, sum): (Labels, Sum)| (labels, sum.seconds()));
        out.counter("access", help, Some(Unit::Seconds), seconds)
    }

    fn host(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let totals = &self.totals;
        let lost = &totals.lost;
        out.counter("observed", "Exits that were seen, of all VMs", None, once(totals.observed))?;
        let causes = [
            ("no_entry", lost.no_entry),
            ("no_book", lost.vcpu_limit),
            ("no_vcpu_entry", lost.vcpu_table_full),
            ("unreadable", lost.unreadable),
            ("stray", totals.unmatched_lost),
        ];
        let causes = causes.map(|(cause, count)| (vec![("cause", cause.to_owned())], count));
        out.counter(
            "lost",
            "Exits that were seen and not recorded, by cause; stray: events without one, likewise",
            None,
            causes.into_iter(),
        )?;
        let help = "Events that no program was run for, as the kernel counts them";
        let missed = totals.missed.iter();
        let missed = missed.map(|(name, &count)| (vec![("tracepoint", safe(name))], count));
        out.counter("missed", help, None, missed)?;
        out.counter(
            "stray",
            "Events that no open exit was found for",
            None,
            once(totals.unmatched),
        )?;
        let silent = u64::from(totals.source == Some(Source::Silent));
        let help =
            "Whether this host's KVM reports events but no exits: 1, only events are counted";
        out.gauge("silent", help, once(silent))?;
        out.counter("intervals", "Readings of the counters", None, once(totals.intervals))?;
        let help = "Time in which exits were counted";
        out.counter("watched", help, Some(Unit::Seconds), once(totals.watched_seconds))?;
        let help = "Time in which they were not, for which sums are extrapolated";
        out.counter("unwatched", help, Some(Unit::Seconds), once(totals.unwatched_seconds))?;
        let help = "The share of exits that were timed in the last interval";
        out.gauge("timed_ratio", help, once(totals.timed_ratio))?;
        let ratio = |percent: Option<f64>| percent.map(|percent| percent / 100.0);
        let of = |figure: fn(&Sampling) -> Option<f64>| {
            ratio(totals.sampling.as_ref().and_then(figure)).into_iter().flat_map(once)
        };
        let help = "What --budget allows, of the CPU time that the VMs take";
        out.gauge("budget_ratio", help, of(|sampling| Some(sampling.budget_percent)))?;
        let help = "What was taken of it in the last interval, by the kernel side and the agent";
        out.gauge("cost_ratio", help, of(|sampling| sampling.cost_percent))?;
        let help = "CPU time of the agent itself";
        out.counter("agent_cpu", help, Some(Unit::Seconds), once(self.own.cpu_seconds))?;
        let resident = once(self.own.resident_bytes);
        out.gauge("agent_resident_bytes", "Memory of the agent itself", resident)
    }
}

fn once<T>(value: T) -> impl Iterator<Item = (Labels, T)> {
    [(Vec::new(), value)].into_iter()
}

fn labels(who: &Who) -> Labels {
    vec![("vm", safe(&who.name)), ("uuid", safe(&who.uuid)), ("domain", safe(&who.domain))]
}

fn with<const N: usize>(labels: &Labels, more: [(&'static str, String); N]) -> Labels {
    labels.iter().cloned().chain(more).collect()
}

/// Where families of series go, one after the other.
struct Families<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Families<'_, '_> {
    fn counter<T: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl Iterator<Item = (Labels, T)>,
    ) -> fmt::Result {
        let unit = unit.as_ref();
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in series {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge<T: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Labels, T)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::view::terminal::tests::nasty;

    /// A label as Prometheus reads it: what is between its quotes, and what is behind them
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    fn read(text: &str) -> Option<(String, &str)> {
        let (mut value, mut chars) = (String::new(), text.strip_prefix('"')?.chars());
        loop {
            match chars.next()? {
                '"' => return Some((value, chars.as_str())),
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    _ => return None,
                }),
                c => value.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn a_name_stays_between_its_quotes(name in nasty(), uuid in nasty()) {
            let who = Who { name: name.clone(), uuid: uuid.clone(), domain: String::new() };
            let vms = [(who, VmTotals::default())].into();
            let Exposition { open, classic } =
                expose(&Totals { vms, ..Totals::default() }, Own::default()).unwrap();
            for text in [open, classic] {
                let start = "vmexit_vm_vcpus{vm=";
                let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(start)).collect();
                prop_assert_eq!(lines.len(), 1);
                let (read_name, rest) = read(lines[0]).unwrap();
                let (read_uuid, rest) = read(rest.strip_prefix(",uuid=").unwrap()).unwrap();
                prop_assert_eq!((read_name, read_uuid), (safe(&name), safe(&uuid)));
                prop_assert_eq!(rest, ",domain=\"\"} 0");
            }
        }
    }
}
