//! From an interval and what is known of the VMs to a [`Report`].

use std::collections::{BTreeMap, BTreeSet};

use vmexit_common::{
    key::{Key, Kind},
    stats::Halts,
};

use super::{
    Accounting, Exit, Leading, Lost, Report, SCHEMA, Sampling, Source, Span, Tables, Total, Vcpu,
    Vm, detail,
    layout::{By, Layout},
    series,
    stats::{Stats, Whole, per_second, percent, total_ns, user_ns},
    subject::Naming,
};
use crate::{
    device::Map,
    finding::{self, Assessment, Scene},
    guest,
    host::Host,
    probe::{Event, Timing},
    reason::{self, Names, Vendor},
    sampler::Spent,
    snapshot::{Interval, RowInterval, Step, VcpuInterval, place},
};

/// What an interval is put into words with.
pub struct Sources<'a> {
    /// Version of vmexit that measured it.
    pub version: &'a str,
    /// Where.
    pub host: &'a Host,
    /// When.
    pub span: Span,
    /// Which exits were timed.
    pub timing: Timing,
    /// What measuring has taken, where there was a budget for it.
    pub spent: Option<Spent>,
    /// What was captured.
    pub events: &'a BTreeSet<Event>,
    /// What exit codes are called.
    pub reasons: &'a Names,
    /// What is known of the address spaces of the VMs, by process id.
    pub maps: &'a BTreeMap<u32, Map>,
    /// Its parts over time, if they are known.
    pub steps: &'a [Step],
    /// How the tables are to be.
    pub layout: Layout,
    /// Who the processes are, by process id; one that nobody could name goes by its number.
    pub guests: BTreeMap<u32, &'a guest::Vm>,
}

/// Makes the report.
pub fn build(interval: &Interval, sources: Sources<'_>) -> Report {
    let Sources {
        version,
        host,
        span,
        timing,
        spent,
        events,
        reasons,
        maps,
        steps,
        layout,
        guests,
    } = sources;
    let mut by_pid: BTreeMap<u32, Vec<&VcpuInterval>> =
        guests.keys().map(|&pid| (pid, Vec::new())).collect();
    for vcpu in &interval.vcpus {
        by_pid.entry(vcpu.thread.pid).or_default().push(vcpu);
    }
    let source = source(interval);
    let frame = Frame {
        reasons,
        maps,
        vendor: host.vendor,
        layout,
        userspace: timing != Timing::Off && events.contains(&Event::Userspace),
        halts: events.contains(&Event::Halt),
        span_ns: interval.span_ns,
        source,
        timing,
    };
    let over_time = series::by_vm(steps);
    let mut vms: Vec<Vm> = by_pid
        .into_iter()
        .map(|(pid, vcpus)| {
            let mut vm = vm(pid, guests.get(&pid).copied(), &vcpus, frame);
            if let Some(counts) = over_time.get(&pid) {
                vm.series = series::series(steps, counts, frame.of(&vcpus));
                vm.total.rate_error_percent = series::rate_error(steps, counts);
            }
            vm
        })
        .collect();
    vms.sort_by_key(|vm| std::cmp::Reverse((vm.total.handled_ns, vm.total.samples)));
    Report {
        schema: SCHEMA,
        version: version.to_owned(),
        host: host.clone(),
        span,
        source,
        timing,
        sampling: spent.map(Sampling::from),
        events: events.clone(),
        accounting: accounting(interval),
        vms,
    }
}

/// What the kernel gave in an interval.
pub fn source(interval: &Interval) -> Source {
    let exits = interval.vcpus.iter().any(|vcpu| vcpu.isa != 0 || vcpu.observed > 0);
    let others = interval.vcpus.iter().any(|vcpu| !vcpu.details.is_empty());
    match (exits, others) {
        (true, _) => Source::Exits,
        (false, true) => Source::Silent,
        (false, false) => Source::Nothing,
    }
}

/// Where every exit of an interval went.
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

/// What holds for all rows of a VM; but for the vendor, of all VMs.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) reasons: &'a Names,
    maps: &'a BTreeMap<u32, Map>,
    pub(super) vendor: Option<Vendor>,
    layout: Layout,
    /// Whether it is known how long userspace had the vCPUs.
    userspace: bool,
    /// Whether it is known how halts ended.
    halts: bool,
    span_ns: u64,
    source: Source,
    timing: Timing,
}

impl<'a> Frame<'a> {
    /// That of the VM that has these vCPUs.
    fn of(self, vcpus: &[&VcpuInterval]) -> Frame<'a> {
        let vendor = vcpus.iter().find_map(|vcpu| Vendor::of_isa(vcpu.isa)).or(self.vendor);
        Frame { vendor, ..self }
    }
}

fn vm(pid: u32, guest: Option<&guest::Vm>, vcpus: &[&VcpuInterval], host: Frame<'_>) -> Vm {
    let has_tables = host.layout.tables.includes(pid);
    let by = if has_tables { host.layout.by } else { By::Vm };
    let frame = Frame { layout: Layout { by, ..host.layout }, ..host.of(vcpus) };
    let guessed = Map::Guessed(guest.map_or(guest::Vmm::Other, |guest| guest.vmm));
    let map = frame.maps.get(&pid).unwrap_or(&guessed);
    let reasons = merged(vcpus.iter().flat_map(|vcpu| &vcpu.reasons));
    let total = total(&reasons, vcpus, frame);
    let (mut tables, assessment) = if has_tables {
        let tables = tables(vcpus, &reasons, &total, map, frame);
        let assessment = finding::assess(Scene {
            tables: &tables,
            total: &total,
            guest,
            vcpus: vcpus.len(),
            span_ns: frame.span_ns,
            source: frame.source,
            timing: frame.timing,
        });
        (tables, assessment)
    } else {
        <(Tables, Assessment)>::default()
    };
    tables.cut(frame.layout.top);
    Vm {
        name: guest.map_or_else(|| guest::nameless(pid), |guest| guest.name.clone()),
        pid,
        leading: Leading::of(&reasons, vcpus, &total, map, frame),
        vcpus: vcpu_rows(vcpus, guest, map, frame),
        tables,
        total,
        series: Vec::new(),
        assessment,
    }
}

/// What some vCPUs did; the tables whole.
fn tables(
    vcpus: &[&VcpuInterval],
    reasons: &[RowInterval],
    total: &Total,
    map: &Map,
    frame: Frame<'_>,
) -> Tables {
    let details = merged(vcpus.iter().flat_map(|vcpu| &vcpu.details));
    let Frame { span_ns, vendor, userspace, .. } = frame;
    // Events without an exit are samples where the host reports no exits at all.
    let unmatched = frame.source != Source::Exits;
    let whole =
        Whole { samples: 0, handled_ns: Some(total.handled_ns), span_ns, unmatched, userspace };
    let mut tables = Tables {
        exits: exits(reasons, total, frame),
        details: detail::tables(&details, whole, Naming { vendor, map }),
        hidden: BTreeMap::new(),
    };
    tables.sort(frame.layout.sort);
    tables
}

/// The rows of several vCPUs as one.
fn merged<'a>(rows: impl Iterator<Item = &'a RowInterval>) -> Vec<RowInterval> {
    let mut sums: Vec<RowInterval> = Vec::new();
    let mut next = 0;
    for row in rows {
        let at = place(&sums, next, |sum| sum.key == row.key);
        match sums.get_mut(at) {
            Some(sum) => sum.merge(row),
            None => sums.push(row.clone()),
        }
        next = at + 1;
    }
    sums.sort_by_key(|row| row.key);
    sums
}

/// The exit code behind a row of reasons; `None` for the row of those without one.
pub(super) fn code_of(key: Key) -> Option<u32> {
    (key.kind() == Some(Kind::Reason)).then_some(key.value() as u32)
}

pub(super) fn reason_name(code: Option<u32>, frame: Frame<'_>) -> String {
    match code {
        Some(code) => frame.reasons.name(frame.vendor, code).into_owned(),
        None => "other".into(),
    }
}

pub(super) fn row_waits(row: &RowInterval, vendor: Option<Vendor>) -> bool {
    code_of(row.key).is_some_and(|code| reason::waits(vendor, code))
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
        total.halts = Some(vcpus.iter().fold(Halts::default(), sum).into());
    }
    total
}

fn vcpu_rows(
    vcpus: &[&VcpuInterval],
    guest: Option<&guest::Vm>,
    map: &Map,
    frame: Frame<'_>,
) -> Vec<Vcpu> {
    let mut rows: Vec<Vcpu> = vcpus
        .iter()
        .map(|vcpu| {
            let tid = vcpu.thread.tid;
            let by_thread = || guest.and_then(|guest| guest.threads.get(&tid).copied());
            let id = vcpu.vcpu_id.or_else(by_thread);
            let (total, tables) = match frame.layout.by {
                By::Vm => (total(&vcpu.reasons, &[vcpu], frame), None),
                By::Vcpu => {
                    let total = total(&vcpu.reasons, &[vcpu], frame);
                    let mut tables = tables(&[vcpu], &vcpu.reasons, &total, map, frame);
                    tables.cut(frame.layout.top);
                    (total, Some(tables))
                }
            };
            Vcpu { id, tid, total, tables }
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
