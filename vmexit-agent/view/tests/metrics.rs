//! Series of the metrics: which rows have one, and that Prometheus can tell them apart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use made_up::{report, row, vcpu};
use vmexit_common::key::{Key, Kind};
use vmexit_core::{
    counters::RowReading,
    report::{Report, VmReport},
    vendor::Vendor,
};
use vmexit_view::metrics::{AgentUsage, Exposition, MOST_ROWS, Totals, expose};

/// Intel's exit code of an I/O instruction.
const IO: u32 = 30;

/// Fault codes of Intel: writes to a page that is missing, and to one that is write-protected.
const MISSING_WRITE: u64 = 0b10;
const PROTECTED_WRITE: u64 = 0b10_1010;

/// The register of a virtio device that its driver writes to notify it.
const NOTIFY: u64 = 0xfe00_3000;

type Labels = BTreeMap<String, String>;

/// A line of the exposition: the value of one series.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// All samples of an exposition, sorted by name and labels.
fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut samples: Vec<Sample> = lines.map(sample).collect();
    samples.sort_by(|one, other| (&one.name, &one.labels).cmp(&(&other.name, &other.labels)));
    samples
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, mut rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = Labels::new();
    while rest != "}" {
        // No label here has a quote or a backslash in its value.
        let (label, after) = rest.split_once("=\"").unwrap();
        let (value, after) = after.split_once('"').unwrap();
        assert!(labels.insert(label.to_owned(), value.to_owned()).is_none(), "{line}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    // The formats differ in how they write a bound of a bucket.
    if let Some(bound) = labels.get_mut("le") {
        *bound = bound.parse::<f64>().unwrap().to_string();
    }
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap() }
}

/// Metrics after one interval.
fn exposed(report: &Report) -> Exposition {
    let mut totals = Totals::default();
    totals.add(report, &[], Instant::now());
    expose(&totals, AgentUsage::default()).unwrap()
}

/// Rows of a VM on Intel: as many exits as given, each of 1 µs, for each key.
fn guest(rows: &[(Key, u32)]) -> Report {
    let exits = rows.iter().map(|(_, count)| count).sum();
    let details = rows.iter().map(|&(key, count)| row(key, &[(1_000, count)])).collect();
    let reasons = vec![row(Key::reason(IO), &[(1_000, exits)])];
    report(Some(Vendor::Vmx), "guest", vec![vcpu(0, reasons, details)])
}

/// Series of accesses: kind, number, direction and name, then the value.
fn accesses(report: &Report) -> Vec<([String; 4], f64)> {
    samples(&exposed(report).classic)
        .into_iter()
        .filter(|sample| sample.name == "vmexit_accesses_total")
        .map(|sample| {
            let label = |name: &str| sample.labels[name].clone();
            (["kind", "number", "direction", "name"].map(label), sample.value)
        })
        .collect()
}

fn series(kind: &str, number: &str, direction: &str, name: &str, value: f64) -> ([String; 4], f64) {
    ([kind, number, direction, name].map(str::to_owned), value)
}

/// A report with rows of all kinds, more rows than series, and VMs whose displayed names are the same.
fn all_kinds() -> Report {
    let many = |key| row(key, &[(10_000, 20_000)]);
    let few = |key| row(key, &[(1_000, 10)]);
    let ports = (0..=MOST_ROWS as u64).map(|port| few(Key::pio(0x1000 + port, 1, 1)));
    let mut details: Vec<RowReading> = vec![
        many(Key::pio(0x608, 0, 4)),
        few(Key::pio(0x608, 1, 4)),
        few(Key::pio(0, 0, 4).other()),
        few(Key::mmio(NOTIFY, 0, 4)),
        few(Key::mmio(NOTIFY, 1, 4)),
        few(Key::plain(Kind::FastMmio, NOTIFY)),
        few(Key::msr(0x6e0, 0)),
        few(Key::msr(0x6e0, 1)),
        few(Key::msr(0, 0).other()),
        few(Key::plain(Kind::Cpuid, 5)),
        few(Key::plain(Kind::Hypercall, 5)),
        few(Key::plain(Kind::HvHypercall, 5)),
        few(Key::plain(Kind::Hypercall, 0).other()),
        few(Key::plain(Kind::HvHypercall, 0).other()),
        few(Key::plain(Kind::Fault, MISSING_WRITE)),
        few(Key::plain(Kind::Fault, PROTECTED_WRITE)),
        few(Key::plain(Kind::Userspace, 2)),
        few(Key::plain(Kind::Userspace, 6)),
    ];
    details.extend(ports);
    let reasons = vec![many(Key::reason(IO)), few(Key::reason(12)), few(Key::reason(0).other())];
    let mut report = report(Some(Vendor::Vmx), "guest", vec![vcpu(0, reasons, details)]);
    let first = report.vms[0].clone();
    for (number, name) in (1..).zip([first.name.clone(), "x".repeat(70), "x".repeat(71)]) {
        report.vms.push(VmReport { pid: first.pid + number, name, ..first.clone() });
    }
    report
}

#[test]
fn metrics_of_faults_are_a_series_per_fault_code() {
    let faults = guest(&[
        (Key::plain(Kind::Fault, MISSING_WRITE), 5),
        (Key::plain(Kind::Fault, PROTECTED_WRITE), 7),
    ]);
    assert_eq!(
        accesses(&faults),
        [
            series("fault", "0x2", "", "write, missing page", 5.0),
            series("fault", "0x2a", "", "write, protected page", 7.0),
        ]
    );
}

#[test]
fn metrics_of_doorbell_and_mmio_write_at_one_address_are_two_series() {
    let writes = guest(&[(Key::plain(Kind::FastMmio, NOTIFY), 3), (Key::mmio(NOTIFY, 1, 4), 11)]);
    assert_eq!(
        accesses(&writes),
        [
            series("doorbell", "0xfe003000", "write", "", 3.0),
            series("mmio", "0xfe003000", "write", "", 11.0),
        ]
    );
}

#[test]
fn metrics_of_all_kinds_have_unique_label_sets() {
    let report = all_kinds();
    assert!(!report.vms[0].assessment.findings.is_empty(), "a finding has a series too");
    let Exposition { open, classic } = exposed(&report);
    for text in [&open, &classic] {
        let samples = samples(text);
        let mut known = BTreeSet::new();
        for Sample { name, labels, .. } in &samples {
            assert!(known.insert((name, labels)), "twice: {name} {labels:?}");
        }
        let kinds = |name: &str| -> BTreeSet<&str> {
            let family = samples.iter().filter(|sample| sample.name == name);
            family.map(|sample| sample.labels["kind"].as_str()).collect()
        };
        let all = [
            "",
            "cpuid",
            "doorbell",
            "fault",
            "hyperv_hypercall",
            "kvm_hypercall",
            "mmio",
            "msr",
            "port",
            "userspace",
        ];
        assert_eq!(kinds("vmexit_accesses_total"), all.into());
        assert_eq!(kinds("vmexit_access_seconds_total"), all.into());
    }
    let (open, classic) = (samples(&open), samples(&classic));
    assert_eq!(open, classic, "both formats have the same samples");
}
