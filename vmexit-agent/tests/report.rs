//! One recorded interval through model and views: what each says, and that they agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::collections::BTreeMap;

use vmexit::{
    guest,
    host::Host,
    model::{self, Layout, Report, Source, Sources, Span},
    probe::{Event, Timing},
    reason::{Names, Vendor},
    snapshot::{Durations, Interval, RowReading, Snapshot, Thread, VcpuReading},
    view::{self, Format},
};
use vmexit_common::{
    book::{Halts, Row},
    key::{Key, Kind},
    vcpu::ISA_VMX,
};

const SECOND: u64 = 1_000_000_000;
const PID: u32 = 4_242;

fn row(key: Key, durations: &[(u64, u32)]) -> RowReading {
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

fn stray(key: Key, count: u64) -> RowReading {
    let row = Row { key: key.0, stray: count, ..Row::default() };
    RowReading { row, durations: Some(Box::default()), ..RowReading::default() }
}

fn vcpu(id: u32, reasons: Vec<RowReading>, details: Vec<RowReading>) -> VcpuReading {
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

/// Proportions of a Windows guest whose clock is the ACPI PM timer.
fn windows() -> Report {
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
    report(Some(Vendor::Vmx), "win10", vec![first, second])
}

fn silent() -> Report {
    let details = vec![stray(Key::pio(0x608, 0, 4), 1_000), stray(Key::pio(0x3f8, 1, 1), 10)];
    report(None, "evil\x1b[31m\nname", vec![vcpu(0, Vec::new(), details)])
}

fn report(vendor: Option<Vendor>, name: &str, vcpus: Vec<VcpuReading>) -> Report {
    let guest =
        guest::Vm { pid: PID, name: name.into(), vcpus: vcpus.len(), ..guest::Vm::default() };
    let end = Snapshot { at_ns: 10 * SECOND, vcpus, ..Snapshot::default() };
    let host = Host {
        name: "host".into(),
        kernel: "6.1.0".into(),
        cpus: 8,
        vendor,
        kvm_module: Some(if vendor.is_some() { "kvm_intel" } else { "kvm_other" }.into()),
    };
    let span = Span { start: "2026-01-02T03:04:05Z".into(), seconds: 10.0, interrupted: false };
    let (reasons, guests) = (&Names::default(), &BTreeMap::from([(PID, guest)]));
    let (timing, events) = (Timing::All, Event::ALL.into());
    let (maps, layout) = (&BTreeMap::new(), Layout::default());
    let sources = Sources { host, span, timing, events, reasons, maps, layout, guests };
    model::build(&Interval::between(&Snapshot::default(), &end), sources)
}

fn rendered(report: &Report, format: Format) -> String {
    String::from_utf8(view::render(report, format).unwrap().to_vec()).unwrap()
}

#[test]
fn text_of_a_busy_guest() {
    insta::assert_snapshot!(rendered(&windows(), Format::Text));
}

#[test]
fn text_of_a_silent_host() {
    insta::assert_snapshot!(rendered(&silent(), Format::Text));
}

#[test]
fn json_of_a_busy_guest() {
    insta::assert_snapshot!(rendered(&windows(), Format::Json));
}

#[test]
fn every_exit_is_accounted_for() {
    let report = windows();
    let accounting = &report.accounting;
    let rows: u64 = report.vms[0].tables.exits.iter().map(|exit| exit.stats.samples).sum();
    assert_eq!(rows, accounting.recorded);
    assert_eq!(accounting.observed, accounting.recorded + accounting.open as u64);
    assert_eq!(accounting.unaccounted, 0);
    let vcpus: u64 = report.vms[0].vcpus.iter().map(|vcpu| vcpu.total.samples).sum();
    assert_eq!(vcpus, rows);
}

#[test]
fn what_exits_are_mostly_for_is_known_without_tables() {
    let busy = windows().vms.remove(0);
    let (reason, detail) = (busy.leading.reason.unwrap(), busy.leading.detail.unwrap());
    let first = &busy.tables.exits[0];
    assert_eq!(reason.reason, first.reason);
    assert_eq!(Some(reason.share_percent), first.stats.time_percent);
    let first = &busy.tables.details[&Event::Ioport][0];
    assert_eq!(detail.subject, first.subject);
    assert_eq!(Some(detail.share_percent), first.stats.time_percent);

    let silent = silent().vms.remove(0);
    assert!(silent.leading.reason.is_none());
    let detail = silent.leading.detail.unwrap();
    assert_eq!((detail.subject.number, silent.total.stray), (Some(0x608), 1_010));
    assert!((detail.share_percent - 100_000.0 / 1_010.0).abs() < 1e-9);
}

#[test]
fn waiting_is_no_cost() {
    let vm = &windows().vms[0];
    let halted = vm.tables.exits.last().unwrap();
    assert_eq!((halted.reason.as_str(), halted.waits), ("HLT", true));
    assert_eq!(halted.stats.time_percent, None);
    assert_eq!(vm.total.waiting_ns, 4 * SECOND);
    let shares: f64 = vm.tables.exits.iter().filter_map(|exit| exit.stats.time_percent).sum();
    assert!((shares - 100.0).abs() < 0.01, "{shares}");
}

#[test]
fn a_silent_host_is_not_taken_for_an_idle_one() {
    let report = silent();
    assert_eq!(report.source, Source::Silent);
    let port = &report.vms[0].tables.details[&Event::Ioport][0].stats;
    assert_eq!((port.samples, port.avg_ns), (1_000, None));
}

/// Names of all fields in a JSON value.
fn fields(value: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
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

#[test]
fn every_json_field_is_documented() {
    let docs = include_str!("../../docs/json.md");
    let mut names = std::collections::BTreeSet::new();
    fields(&serde_json::to_value(windows()).unwrap(), &mut names);
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
    }
}

#[test]
fn an_access_whose_exit_began_before_the_capture_is_no_sample() {
    let mut port = row(Key::pio(0x608, 0, 4), &[(6_000, 10)]);
    port.row.stray = 1;
    let reasons = vec![row(Key::reason(30), &[(6_000, 10)])];
    let details = vec![port, stray(Key::pio(0x71, 0, 1), 1)];
    let report = report(Some(Vendor::Vmx), "caught", vec![vcpu(0, reasons, details)]);
    let ports = &report.vms[0].tables.details[&Event::Ioport];
    assert_eq!(ports.len(), 1, "a row without a sample");
    assert_eq!((ports[0].stats.samples, ports[0].stray), (10, 1));
    assert_eq!(report.accounting.stray, 2);
}
