//! Made-up guests, given row by row, and their recordings; and the recorded samples in `tests/fixtures`.

#![allow(dead_code, reason = "each test crate uses a part")]

pub mod activity;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use vmexit_common::{
    key::{Key, Kind},
    stats::{Halts, StatsRow},
    vcpu::{ISA_SVM, ISA_VMX},
};
use vmexit_core::{
    counters::{Count, Durations, Interval, RowReading, Snapshot, Step, Thread, VcpuReading},
    device::Map,
    event::Event,
    finding,
    host::Host,
    measurement::Measurement,
    reason::Names,
    report::{Report, Scope},
    timing::Timing,
    vendor::Vendor,
    vm::{self, Vmm},
};
use vmexit_view::{ReportFormat, TableOptions};

pub const SECOND: u64 = 1_000_000_000;
pub const PID: u32 = 4_242;

/// A row with these durations: nanoseconds, and number of exits.
pub fn row(key: Key, durations: &[(u64, u32)]) -> RowReading {
    let mut spread = Durations::default();
    let mut row = StatsRow { key: key.0, ..StatsRow::default() };
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

/// A row of a host without exits, which has this number of events.
pub fn unmatched(key: Key, count: u64) -> RowReading {
    let row = StatsRow { key: key.0, unmatched: count, ..StatsRow::default() };
    RowReading { row, durations: Some(Box::default()), ..RowReading::default() }
}

/// A vCPU on Intel with these rows, and one exit in flight; without reasons, one of a host without exits.
pub fn vcpu(id: u32, reasons: Vec<RowReading>, details: Vec<RowReading>) -> VcpuReading {
    let recorded: u64 = reasons.iter().map(|reading| reading.row.exits).sum();
    let silent = recorded == 0;
    VcpuReading {
        thread: Thread { pid: PID, tid: PID + 1 + id, since_ns: 1 },
        vcpu_id: Some(id),
        isa: if silent { 0 } else { ISA_VMX },
        observed: if silent { 0 } else { recorded + 1 },
        in_flight: u64::from(!silent),
        lost_no_entry: 0,
        halts: Halts { blocked: 90, blocked_ns: 3_900_000_000, polled: 10, polled_ns: 100_000_000 },
        reasons,
        details,
    }
    .with_places()
}

/// A capture of 10 s of one VM, with its options.
pub struct Capture {
    pub vendor: Option<Vendor>,
    pub guest: vm::Vm,
    pub vcpus: Vec<VcpuReading>,
    pub timing: Timing,
    pub events: BTreeSet<Event>,
    pub scope: Scope,
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
        let guest = vm::Vm { pid: PID, name, vcpus: count, vmm: Vmm::Qemu, ..vm::Vm::default() };
        let (timing, events) = (Timing::All, Event::ALL.into());
        Self { vendor, guest, vcpus, timing, events, scope: Scope::default(), map: None }
    }

    pub fn recording(self) -> Measurement {
        let Self { vendor, guest, vcpus, timing, events, scope: _, map } = self;
        let end = Snapshot { at_ns: 10 * SECOND, vcpus, ..Snapshot::default() };
        let host = Host {
            name: "host".into(),
            kernel: "6.1.0".into(),
            cpus: 8,
            vendor,
            kvm_module: Some(if vendor.is_some() { "kvm_intel" } else { "kvm_other" }.into()),
        };
        let interval = Interval::between(&Snapshot::default(), &end);
        let steps = steps(&interval);
        Measurement {
            version: "0.1.0".into(),
            host,
            start: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)),
            began: None,
            interrupted: false,
            timing,
            sampling: None,
            events,
            reasons: Names::default(),
            vms: vec![guest],
            maps: map.map(|map| (PID, map)).into_iter().collect(),
            interval,
            steps,
        }
    }

    pub fn report(self) -> Report {
        let scope = self.scope;
        finding::report(&self.recording(), scope)
    }
}

/// The report of a measurement with all tables.
pub fn report_of(measurement: &Measurement) -> Report {
    finding::report(measurement, Scope::default())
}

/// The interval in four steps, with a tenth, a tenth, three tenths and the rest of its exits.
fn steps(interval: &Interval) -> Vec<Step> {
    let whole = Step::of(interval);
    let part = |at: u64| {
        let count = |count: &Count| Count {
            count: match at {
                3 => count.count - count.count / 10 * 2 - count.count / 10 * 3,
                2 => count.count / 10 * 3,
                _ => count.count / 10,
            },
            ..count.clone()
        };
        Step {
            span_ns: whole.span_ns / 4,
            unwatched_ns: 0,
            counts: whole.counts.iter().map(count).collect(),
        }
    };
    (0..4).map(part).collect()
}

pub fn recording(vendor: Option<Vendor>, name: &str, vcpus: Vec<VcpuReading>) -> Measurement {
    Capture::of(vendor, name, vcpus).recording()
}

pub fn report(vendor: Option<Vendor>, name: &str, vcpus: Vec<VcpuReading>) -> Report {
    Capture::of(vendor, name, vcpus).report()
}

/// A Windows guest whose clock is the ACPI PM timer, with realistic proportions and rows of most kinds.
pub fn windows() -> Measurement {
    let first = vcpu(
        0,
        vec![
            row(Key::reason(30), &[(6_000, 120_000), (30_000, 8_000)]),
            row(Key::reason(1), &[(900, 18_000)]),
            row(Key::reason(12), &[(40_000_000, 100)]),
        ],
        vec![
            row(Key::pio(0x608, 0, 4), &[(6_000, 79_000)]),
            row(Key::pio(0x70, 1, 1), &[(6_000, 25_000), (30_000, 8_000)]),
            row(Key::mmio(0xfed0_00f0, 0, 4), &[(7_000, 40)]),
            row(Key::plain(Kind::FastMmio, 0xfe00_3000), &[(900, 1_000)]),
            row(Key::msr(0x6e0, 1), &[(1_500, 700)]),
            row(Key::msr(0x4000_0020, 0), &[(1_700, 30)]),
            row(Key::plain(Kind::Cpuid, 0x4000_0000), &[(1_100, 3)]),
            row(Key::plain(Kind::HvHypercall, 0x5c), &[(1_300, 5)]),
            row(Key::plain(Kind::Fault, 0b10), &[(2_300, 6)]),
            row(Key::plain(Kind::Userspace, 2), &[(4_000, 120_000)]),
            row(Key::msr(0, 0).other(), &[(1_000, 2)]),
        ],
    );
    let second = vcpu(
        1,
        vec![
            row(Key::reason(30), &[(5_000, 100_000)]),
            row(Key::reason(0x8000_0021), &[(64, 1)]),
            row(Key::reason(0).other(), &[(700, 3)]),
        ],
        vec![row(Key::pio(0x608, 0, 4), &[(5_000, 79_788)])],
    );
    recording(Some(Vendor::Vmx), "win10", vec![first, second])
}

/// A VM with a hostile name on a host whose KVM reports no exits.
pub fn silent() -> Measurement {
    let details =
        vec![unmatched(Key::pio(0x608, 0, 4), 1_000), unmatched(Key::pio(0x3f8, 1, 1), 10)];
    recording(None, "evil\x1b[31m\nname", vec![vcpu(0, Vec::new(), details)])
}

/// Recordings in `tests/fixtures/recording`: all format versions, with exits and without.
pub fn sample_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recording");
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "vmexit")).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files
}

/// A measurement in `format`.
pub fn rendered(measurement: &Measurement, options: TableOptions, format: ReportFormat) -> String {
    let report = finding::report(measurement, options.scope());
    String::from_utf8(vmexit_view::render(report, &options, format).unwrap().to_vec()).unwrap()
}

/// Adds the names of all fields in a JSON value.
pub fn fields(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                into.insert(name.clone());
                fields(value, into);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, into)),
        _ => {}
    }
}
