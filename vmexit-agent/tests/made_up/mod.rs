//! Guests that are made up, row by row, and the reports on them.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeSet;

use vmexit::{
    device::Map,
    guest::{self, Vmm},
    host::Host,
    model::{self, Layout, Report, Sources, Span},
    probe::{Event, Timing},
    reason::{Names, Vendor},
    snapshot::{Durations, Interval, RowReading, Snapshot, Thread, VcpuReading},
};
use vmexit_common::{
    book::{Halts, Row},
    key::Key,
    vcpu::{ISA_SVM, ISA_VMX},
};

pub const SECOND: u64 = 1_000_000_000;
pub const PID: u32 = 4_242;

pub fn row(key: Key, durations: &[(u64, u32)]) -> RowReading {
    let mut spread = Durations::default();
    let mut row = Row { key: key.0, ..Row::default() };
    for &(ns, count) in durations {
        row.min_ns = if row.exits == 0 { ns } else { row.min_ns.min(ns) };
        row.max_ns = row.max_ns.max(ns);
        row.exits += u64::from(count);
        row.total_ns += ns * u64::from(count);
        row.user_ns += ns * u64::from(count) / 4;
        spread.record(ns, count.into());
    }
    RowReading { row, durations: Some(Box::new(spread)), ..RowReading::default() }
}

pub fn stray(key: Key, count: u64) -> RowReading {
    let row = Row { key: key.0, stray: count, ..Row::default() };
    RowReading { row, durations: Some(Box::default()), ..RowReading::default() }
}

pub fn vcpu(id: u32, reasons: Vec<RowReading>, details: Vec<RowReading>) -> VcpuReading {
    let booked: u64 = reasons.iter().map(|reading| reading.row.exits).sum();
    let silent = booked == 0;
    VcpuReading {
        thread: Thread { pid: PID, tid: PID + 1 + id, since_ns: 1 },
        vcpu_id: Some(id),
        isa: if silent { 0 } else { ISA_VMX },
        // One more is open.
        observed: if silent { 0 } else { booked + 1 },
        open: u64::from(!silent),
        lost_no_entry: 0,
        halts: Halts { blocked: 90, blocked_ns: 3_900_000_000, polled: 10, polled_ns: 100_000_000 },
        reasons,
        details,
    }
    .placed()
}

/// A capture of 10 s of one VM, and how it was made.
pub struct Capture {
    pub vendor: Option<Vendor>,
    pub guest: guest::Vm,
    pub vcpus: Vec<VcpuReading>,
    pub timing: Timing,
    pub events: BTreeSet<Event>,
    pub layout: Layout,
    pub map: Option<Map>,
}

impl Capture {
    pub fn of(vendor: Option<Vendor>, name: &str, vcpus: Vec<VcpuReading>) -> Self {
        let vcpus: Vec<VcpuReading> = vcpus
            .into_iter()
            .map(|vcpu| match vendor {
                Some(Vendor::Svm) => VcpuReading { isa: ISA_SVM, ..vcpu },
                _ => vcpu,
            })
            .collect();
        let (name, count) = (name.to_owned(), vcpus.len());
        let guest =
            guest::Vm { pid: PID, name, vcpus: count, vmm: Vmm::Qemu, ..guest::Vm::default() };
        let (timing, events) = (Timing::All, Event::ALL.into());
        Self { vendor, guest, vcpus, timing, events, layout: Layout::default(), map: None }
    }

    pub fn report(self) -> Report {
        let Self { vendor, guest, vcpus, timing, events, layout, map } = self;
        let end = Snapshot { at_ns: 10 * SECOND, vcpus, ..Snapshot::default() };
        let host = Host {
            name: "host".into(),
            kernel: "6.1.0".into(),
            cpus: 8,
            vendor,
            kvm_module: Some(if vendor.is_some() { "kvm_intel" } else { "kvm_other" }.into()),
        };
        let span = Span { start: "2026-01-02T03:04:05Z".into(), seconds: 10.0, interrupted: false };
        let (reasons, guests, maps) =
            (&Names::default(), &[(PID, guest)].into(), &map.map(|map| (PID, map)).into_iter().collect());
        let sources = Sources { host, span, timing, events, reasons, maps, layout, guests };
        model::build(&Interval::between(&Snapshot::default(), &end), sources)
    }
}

pub fn report(vendor: Option<Vendor>, name: &str, vcpus: Vec<VcpuReading>) -> Report {
    Capture::of(vendor, name, vcpus).report()
}
