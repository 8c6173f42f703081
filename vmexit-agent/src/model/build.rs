//! From an interval and the VMs that were found to a [`Report`].

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use vmexit_common::key::{Key, Kind};

use super::{
    Accounting, Direction, Exit, Lost, Port, Report, SCHEMA, Source, Span, Total, Vcpu, Vm,
    stats::{Stats, Whole, per_second, percent, total_ns},
};
use crate::{
    guest,
    host::Host,
    probe::{Event, Timing},
    reason::{self, Names, Vendor},
    snapshot::{Interval, RowInterval, VcpuInterval},
};

/// What an interval is put into words with.
pub struct Sources<'a> {
    /// Where it was measured.
    pub host: Host,
    /// When.
    pub span: Span,
    /// Which exits were timed.
    pub timing: Timing,
    /// What was captured.
    pub events: BTreeSet<Event>,
    /// What exit codes are called.
    pub reasons: &'a Names,
    /// Who the processes are; one that nobody could name goes by its number.
    pub guests: &'a [guest::Vm],
}

/// Makes the report.
pub fn build(interval: &Interval, sources: Sources<'_>) -> Report {
    let Sources { host, span, timing, events, reasons, guests } = sources;
    let mut by_pid: BTreeMap<u32, Vec<&VcpuInterval>> =
        guests.iter().map(|guest| (guest.pid, Vec::new())).collect();
    for vcpu in &interval.vcpus {
        by_pid.entry(vcpu.thread.pid).or_default().push(vcpu);
    }
    let source = source(interval);
    let frame = Frame {
        reasons,
        vendor: host.vendor,
        span_ns: interval.span_ns,
        stray: source != Source::Exits,
    };
    let mut vms: Vec<Vm> = by_pid
        .into_iter()
        .map(|(pid, vcpus)| {
            let guest = guests.iter().find(|guest| guest.pid == pid);
            vm(pid, guest, &vcpus, frame)
        })
        .collect();
    vms.sort_by_key(|vm| std::cmp::Reverse((vm.total.handled_ns, vm.total.samples)));
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        host,
        span,
        source,
        timing,
        events,
        accounting: accounting(interval),
        vms,
    }
}

fn source(interval: &Interval) -> Source {
    let exits = interval.vcpus.iter().any(|vcpu| vcpu.isa != 0 || vcpu.observed > 0);
    let others = interval.vcpus.iter().any(|vcpu| !vcpu.details.is_empty());
    match (exits, others) {
        (true, _) => Source::Exits,
        (false, true) => Source::Silent,
        (false, false) => Source::Nothing,
    }
}

fn accounting(interval: &Interval) -> Accounting {
    let loss = &interval.loss;
    let mut sum = Accounting {
        lost: Lost {
            no_book: loss.no_book,
            no_vcpu_entry: loss.no_vcpu_entry,
            unreadable: loss.unreadable,
            ..Lost::default()
        },
        observed: loss.no_book + loss.no_vcpu_entry + loss.unreadable,
        stray_lost: loss.stray,
        missed: interval.missed.iter().map(|(&name, &missed)| (name.to_owned(), missed)).collect(),
        torn: interval.torn,
        ..Accounting::default()
    };
    for vcpu in &interval.vcpus {
        sum.observed += vcpu.observed;
        sum.recorded += vcpu.recorded();
        sum.open += vcpu.opened;
        sum.lost.no_entry += vcpu.lost_no_entry;
        sum.stray += vcpu.details.iter().map(|row| row.stray).sum::<u64>();
        sum.unaccounted += vcpu.unaccounted();
    }
    sum
}

/// What holds for all rows of a VM; but for the vendor, of all VMs.
#[derive(Clone, Copy)]
struct Frame<'a> {
    reasons: &'a Names,
    vendor: Option<Vendor>,
    span_ns: u64,
    /// Events without an exit are samples: this host reports no exits at all.
    stray: bool,
}

fn vm(pid: u32, guest: Option<&guest::Vm>, vcpus: &[&VcpuInterval], host: Frame<'_>) -> Vm {
    let vendor = vcpus.iter().find_map(|vcpu| Vendor::of_isa(vcpu.isa)).or(host.vendor);
    let frame = Frame { vendor, ..host };
    let rows = merged(vcpus.iter().flat_map(|vcpu| &vcpu.reasons));
    let details = merged(vcpus.iter().flat_map(|vcpu| &vcpu.details));
    let total = total(&rows, frame);
    Vm {
        name: guest.map_or_else(|| format!("pid {pid}"), |guest| guest.name.clone()),
        pid,
        vcpus: vcpu_rows(vcpus, guest, frame),
        exits: exits(&rows, &total, frame),
        ports: ports(&details, &total, frame),
        total,
    }
}

/// The rows of several vCPUs as one.
fn merged<'a>(rows: impl Iterator<Item = &'a RowInterval>) -> Vec<RowInterval> {
    let mut by_key: BTreeMap<Key, RowInterval> = BTreeMap::new();
    for row in rows {
        match by_key.entry(row.key) {
            Entry::Vacant(entry) => drop(entry.insert(row.clone())),
            Entry::Occupied(mut entry) => entry.get_mut().merge(row),
        }
    }
    by_key.into_values().collect()
}

/// The exit code behind a row of reasons; `None` for the row of those without one.
fn code_of(row: &RowInterval) -> Option<u32> {
    (row.key.kind() == Some(Kind::Reason)).then_some(row.key.value() as u32)
}

fn row_waits(row: &RowInterval, vendor: Option<Vendor>) -> bool {
    code_of(row).is_some_and(|code| reason::waits(vendor, code))
}

fn total(reasons: &[RowInterval], frame: Frame<'_>) -> Total {
    let mut total = Total::default();
    for row in reasons {
        total.samples += row.exits;
        let waits = row_waits(row, frame.vendor);
        *(if waits { &mut total.waiting_ns } else { &mut total.handled_ns }) += total_ns(row);
    }
    total.per_second = per_second(total.samples, frame.span_ns);
    total.core_percent = percent(total.handled_ns, frame.span_ns);
    total
}

fn vcpu_rows(vcpus: &[&VcpuInterval], guest: Option<&guest::Vm>, frame: Frame<'_>) -> Vec<Vcpu> {
    let mut rows: Vec<Vcpu> = vcpus
        .iter()
        .map(|vcpu| {
            let tid = vcpu.thread.tid;
            let by_thread = || guest.and_then(|guest| guest.threads.get(&tid).copied());
            let total = total(&vcpu.reasons, frame);
            Vcpu { id: vcpu.vcpu_id.or_else(by_thread), tid, total }
        })
        .collect();
    rows.sort_by_key(|vcpu| (vcpu.id.unwrap_or(u32::MAX), vcpu.tid));
    rows
}

fn exits(rows: &[RowInterval], total: &Total, frame: Frame<'_>) -> Vec<Exit> {
    let Frame { reasons, vendor, span_ns, .. } = frame;
    let mut exits: Vec<Exit> = rows
        .iter()
        .map(|row| {
            let (code, waits) = (code_of(row), row_waits(row, vendor));
            let handled_ns = (!waits).then_some(total.handled_ns);
            let whole = Whole { samples: total.samples, handled_ns, span_ns, stray: false };
            Exit {
                reason: code
                    .map_or_else(|| "other".into(), |code| reasons.name(vendor, code).into_owned()),
                code,
                waits,
                stats: Stats::of(row, &whole),
            }
        })
        .collect();
    exits.sort_by_key(|exit| (exit.waits, std::cmp::Reverse(weight(&exit.stats))));
    exits
}

fn ports(details: &[RowInterval], total: &Total, frame: Frame<'_>) -> Vec<Port> {
    let Frame { span_ns, stray, .. } = frame;
    let mut whole = Whole { samples: 0, handled_ns: Some(total.handled_ns), span_ns, stray };
    let rows = of_all_sizes(
        details.iter().filter(|row| matches!(row.key.kind(), Some(Kind::Pio | Kind::Other))),
    );
    whole.samples = rows.iter().map(|(row, _)| whole.samples_of(row)).sum();
    let mut ports: Vec<Port> = rows
        .into_iter()
        .filter(|(row, _)| whole.samples_of(row) > 0)
        .map(|(row, sizes)| {
            let known = row.key.kind() == Some(Kind::Pio);
            let direction = if row.key.is_write() { Direction::Out } else { Direction::In };
            Port {
                port: known.then_some(row.key.value() as u16),
                direction: known.then_some(direction),
                sizes,
                accesses: row.exits + row.stray + row.more,
                stray: row.stray,
                stats: Stats::of(&row, &whole),
            }
        })
        .collect();
    ports.sort_by_key(|port| std::cmp::Reverse(weight(&port.stats)));
    ports
}

/// Rows that differ in the size of their accesses only, as one each, with the sizes; by key.
fn of_all_sizes<'a>(rows: impl Iterator<Item = &'a RowInterval>) -> Vec<(RowInterval, Vec<u8>)> {
    let mut by_key: BTreeMap<Key, (RowInterval, Vec<u8>)> = BTreeMap::new();
    for row in rows {
        match by_key.entry(row.key.of_any_size()) {
            Entry::Vacant(entry) => {
                entry.insert((row.clone(), row.key.size().into_iter().collect()));
            }
            Entry::Occupied(mut entry) => {
                let (sum, sizes) = entry.get_mut();
                sum.merge(row);
                sizes.extend(row.key.size());
                sizes.sort_unstable();
            }
        }
    }
    by_key.into_values().collect()
}

/// What rows are ordered by: the time that they took, then how many there were.
fn weight(stats: &Stats) -> (u64, u64) {
    (stats.total_ns, stats.samples)
}
