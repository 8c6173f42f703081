//! Construction of a [`Report`] from a measurement.

use std::collections::{BTreeMap, HashMap};

use vmexit_common::{key::Key, stats::Halts};

use super::{
    Accounting, Assessment, Exit, ExitReporting, Leading, Lost, Report, SCHEMA, Scope, Span,
    Tables, Total, VcpuReport, VmReport, detail,
    frame::{Frame, code_of, reason_name, row_waits},
    series,
    stats::{Stats, Whole, per_second, percent, total_ns, user_ns},
    subject::Naming,
};
use crate::{
    counters::{Interval, RowInterval, VcpuInterval},
    device::Map,
    event::Event,
    measurement::Measurement,
    timing::Timing,
    vm,
};

impl Report {
    /// The report of a measurement, without findings: [`finding::assess`](crate::finding::assess)
    /// adds them. VMs and vCPUs in `scope` have tables; all have totals.
    pub fn of(measurement: &Measurement, scope: Scope) -> Self {
        let Measurement { interval, host, timing, events, .. } = measurement;
        let guests: BTreeMap<u32, &vm::Vm> =
            measurement.vms.iter().map(|guest| (guest.pid, guest)).collect();
        let mut by_pid: BTreeMap<u32, Vec<&VcpuInterval>> =
            guests.keys().map(|&pid| (pid, Vec::new())).collect();
        for vcpu in &interval.vcpus {
            by_pid.entry(vcpu.thread.pid).or_default().push(vcpu);
        }
        let exit_reporting = exit_reporting(interval);
        let frame = Frame {
            reasons: &measurement.reasons,
            maps: &measurement.maps,
            vendor: host.vendor,
            scope,
            userspace: *timing != Timing::Off && events.contains(&Event::Userspace),
            halts: events.contains(&Event::Halt),
            span_ns: interval.span_ns,
            source: exit_reporting,
        };
        let steps = series::bounded(&measurement.steps, by_pid.len());
        let over_time = series::by_vm(&steps);
        let mut vms: Vec<VmReport> = by_pid
            .into_iter()
            .map(|(pid, vcpus)| {
                let mut report = vm_report(pid, guests.get(&pid).copied(), &vcpus, frame);
                if let Some(counts) = over_time.get(&pid) {
                    report.series = series::series(&steps, counts, frame.of(&vcpus));
                    report.total.rate_error_percent = series::rate_error(&steps, counts);
                }
                report
            })
            .collect();
        vms.sort_by_key(|vm| std::cmp::Reverse((vm.total.handled_ns, vm.total.samples)));
        Self {
            schema: SCHEMA,
            version: measurement.version.clone(),
            host: host.clone(),
            span: Span::new(measurement.start, interval, measurement.interrupted),
            source: exit_reporting,
            timing: *timing,
            sampling: measurement.sampling,
            events: events.clone(),
            accounting: accounting(interval),
            vms,
        }
    }
}

/// Whether KVM reported exits in an interval.
pub fn exit_reporting(interval: &Interval) -> ExitReporting {
    let exits = interval.vcpus.iter().any(|vcpu| vcpu.isa != 0 || vcpu.observed > 0);
    let others = interval.vcpus.iter().any(|vcpu| !vcpu.details.is_empty());
    match (exits, others) {
        (true, _) => ExitReporting::Exits,
        (false, true) => ExitReporting::Silent,
        (false, false) => ExitReporting::Nothing,
    }
}

/// Accounting of all exits of an interval.
pub fn accounting(interval: &Interval) -> Accounting {
    let loss = &interval.loss;
    let mut sum = Accounting {
        lost: Lost {
            vcpu_limit: loss.vcpu_limit,
            vcpu_table_full: loss.vcpu_table_full,
            unreadable: loss.unreadable,
            ..Lost::default()
        },
        observed: loss.vcpu_limit + loss.vcpu_table_full + loss.unreadable,
        unmatched_lost: loss.unmatched,
        missed: interval.missed.clone(),
        torn: interval.torn,
        ..Accounting::default()
    };
    for vcpu in &interval.vcpus {
        sum.observed += vcpu.observed;
        sum.recorded += vcpu.recorded();
        sum.in_flight += vcpu.in_flight_change;
        sum.lost.no_entry += vcpu.lost_no_entry;
        sum.unmatched += vcpu.details.iter().map(|row| row.unmatched).sum::<u64>();
        sum.unaccounted += vcpu.unaccounted();
    }
    sum
}

fn vm_report(
    pid: u32,
    guest: Option<&vm::Vm>,
    vcpus: &[&VcpuInterval],
    frame: Frame<'_>,
) -> VmReport {
    let has_tables = frame.scope.vms.includes(pid);
    let scope = Scope { vcpus: has_tables && frame.scope.vcpus, ..frame.scope };
    let frame = Frame { scope, ..frame.of(vcpus) };
    let guessed = Map::Guessed(guest.map_or(vm::Vmm::Other, |guest| guest.vmm));
    let map = frame.maps.get(&pid).unwrap_or(&guessed);
    let reasons = merged(vcpus.iter().flat_map(|vcpu| &vcpu.reasons));
    let total = total(&reasons, vcpus, frame);
    VmReport {
        name: guest.map_or_else(|| vm::fallback_name(pid), |guest| guest.name.clone()),
        pid,
        vendor: frame.vendor,
        leading: Leading::of(&reasons, vcpus, &total, map, frame),
        vcpus: vcpu_rows(vcpus, guest, map, frame),
        tables: if has_tables {
            tables(vcpus, &reasons, &total, map, frame)
        } else {
            Tables::default()
        },
        total,
        series: Vec::new(),
        assessment: Assessment::default(),
    }
}

/// Complete tables of some vCPUs.
fn tables(
    vcpus: &[&VcpuInterval],
    reasons: &[RowInterval],
    total: &Total,
    map: &Map,
    frame: Frame<'_>,
) -> Tables {
    let details = merged(vcpus.iter().flat_map(|vcpu| &vcpu.details));
    let Frame { span_ns, vendor, userspace, .. } = frame;
    // If KVM reports no exits, the samples are events without an exit. `detail::tables` sets `samples` of
    // each table.
    let unmatched = frame.source != ExitReporting::Exits;
    let whole =
        Whole { samples: 0, handled_ns: Some(total.handled_ns), span_ns, unmatched, userspace };
    Tables {
        exits: exits(reasons, total, frame),
        details: detail::tables(&details, whole, Naming { vendor, map }),
        hidden: BTreeMap::new(),
    }
}

/// Sums rows of several vCPUs by key.
fn merged<'a>(rows: impl Iterator<Item = &'a RowInterval>) -> Vec<RowInterval> {
    let mut sums: Vec<RowInterval> = Vec::new();
    // vCPUs of a VM mostly have the same rows in the same order; for others there is the index.
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut next = 0;
    for row in rows {
        let expected = sums.get(next).is_some_and(|sum| sum.key == row.key);
        let at = if expected { next } else { *places.entry(row.key).or_insert(sums.len()) };
        match sums.get_mut(at) {
            Some(sum) => sum.merge(row),
            None => sums.push(row.clone()),
        }
        next = at + 1;
    }
    sums.sort_by_key(|row| row.key);
    sums
}

fn total(reasons: &[RowInterval], vcpus: &[&VcpuInterval], frame: Frame<'_>) -> Total {
    let mut total = Total::default();
    let mut userspace_ns = 0;
    for row in reasons {
        total.samples += row.exits;
        if row_waits(row, frame.vendor) {
            total.waiting_ns = total.waiting_ns.saturating_add(total_ns(row));
        } else {
            total.handled_ns = total.handled_ns.saturating_add(total_ns(row));
            userspace_ns = user_ns(row).saturating_add(userspace_ns);
        }
    }
    total.unmatched = vcpus.iter().flat_map(|vcpu| &vcpu.details).map(|row| row.unmatched).sum();
    total.userspace_ns = frame.userspace.then_some(userspace_ns);
    total.per_second = per_second(total.samples, frame.span_ns);
    total.core_percent = percent(total.handled_ns, frame.span_ns);
    if frame.halts {
        let sum = |sum: Halts, vcpu: &&VcpuInterval| sum.with(&vcpu.halts, u64::wrapping_add);
        total.halts = Some(vcpus.iter().fold(Halts::default(), sum));
    }
    total
}

fn vcpu_rows(
    vcpus: &[&VcpuInterval],
    guest: Option<&vm::Vm>,
    map: &Map,
    frame: Frame<'_>,
) -> Vec<VcpuReport> {
    let mut rows: Vec<VcpuReport> = vcpus
        .iter()
        .map(|vcpu| {
            let tid = vcpu.thread.tid;
            let by_thread = || guest.and_then(|guest| guest.threads.get(&tid).copied());
            let id = vcpu.vcpu_id.or_else(by_thread);
            let total = total(&vcpu.reasons, &[vcpu], frame);
            let tables =
                frame.scope.vcpus.then(|| tables(&[vcpu], &vcpu.reasons, &total, map, frame));
            VcpuReport { id, tid, total, tables }
        })
        .collect();
    rows.sort_by_key(|vcpu| (vcpu.id.unwrap_or(u32::MAX), vcpu.tid));
    rows
}

fn exits(rows: &[RowInterval], total: &Total, frame: Frame<'_>) -> Vec<Exit> {
    let Frame { vendor, span_ns, userspace, .. } = frame;
    rows.iter()
        .map(|row| {
            let (code, waits) = (code_of(row.key), row_waits(row, vendor));
            let handled_ns = (!waits).then_some(total.handled_ns);
            let whole =
                Whole { samples: total.samples, handled_ns, span_ns, unmatched: false, userspace };
            Exit { reason: reason_name(code, frame), code, waits, stats: Stats::of(row, &whole) }
        })
        .collect()
}
