//! Each rule on two made-up guests: one that matches it, and a similar one that does not. Remedies and texts of findings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::collections::BTreeSet;

use made_up::{
    Capture,
    activity::{
        APIC_ACCESS, Activity, CPUID, EOI_INDUCED, EXTERNAL_INTERRUPT, FEW, HLT, IO, MANY, PAUSE,
        PREEMPTION_TIMER, SVM_CPUID, SVM_PAUSE, each, exits, input, many, plain, polled, read,
    },
    row, unmatched, vcpu,
};
use vmexit_common::{
    key::{Key, Kind},
    stats::Halts,
};
use vmexit_core::{
    finding::{self, Advice, Assessment, Confidence, Finding, Os, Rule, Threshold, rules},
    reason::Names,
    report::{Report, Scope, Selection},
    timing::Timing,
    vendor::Vendor,
    vm::{Feature, Profile},
};
use vmexit_view::{ReportFormat, TableOptions};

/// Memory tree of a q35 machine of QEMU 7.2.
const Q35: &str = include_str!("../../tests/fixtures/mtree/7.2-q35.txt");

fn assessed(capture: Capture) -> Assessment {
    capture.report().vms.remove(0).assessment
}

/// For each rule, a guest that matches and a similar one that does not.
#[rustfmt::skip]
fn cases() -> Vec<(&'static str, Activity, Activity)> {
    use Kind::{Cpuid, FastMmio, Fault, HvHypercall, Hypercall};
    let network = || Q35.replace(": ahci", ": e1000");
    vec![
        ("acpi-pm-timer", many(input(0x608)), each(&[input(0x608)], FEW)),
        ("rtc", each(&[Key::pio(0x70, 1, 1), input(0x71)], MANY), many(input(0x72))),
        ("hpet", many(read(0xfed0_00f0)), many(read(0xfed0_0400))),
        ("hyperv-reference-counter", many(Key::msr(0x4000_0020, 0)), many(Key::msr(0x4000_0021, 0))),
        ("hyperv-timers", many(Key::msr(0x4000_00b1, 1)), many(Key::msr(0x4000_00b1, 0))),
        ("timer-programming", many(Key::msr(0x6e0, 1)), each(&[Key::msr(0x6e0, 1)], &[(30_000, 4_900)])),
        ("preemption-timer", exits(PREEMPTION_TIMER, MANY), exits(PREEMPTION_TIMER, &[(30_000, 4_900)])),
        ("serial-port", many(input(0x3fd)), many(input(0x3f6))),
        ("pci-configuration", each(&[Key::pio(0xcf8, 1, 4), input(0xcfc)], MANY), many(input(0xcd8))),
        ("debug-console", many(Key::pio(0x402, 1, 1)), many(Key::pio(0x401, 1, 1))),
        ("fw-cfg", many(input(0x511)), many(input(0x514))),
        ("vmport", many(input(0x5658)), each(&[input(0x5658)], FEW)),
        ("emulated-network", many(read(0xfea1_7008)).on(&network()), many(read(0xfea1_7008)).on(Q35)),
        ("emulated-disk", many(read(0xfea1_7008)).on(Q35), many(read(0xfea1_7008)).on(&network())),
        ("emulated-usb", many(read(0xfea1_0040)).on(Q35), many(read(0xfea1_7008)).on(Q35)),
        ("emulated-device", many(read(0xfeb0_0000)).in_userspace(), many(read(0xfeb0_0000))),
        ("doorbells", many(plain(FastMmio, 0xfe00_3000)), many(read(0xfe00_3000)).on(Q35).in_userspace()),
        ("host-interrupts", exits(EXTERNAL_INTERRUPT, MANY), exits(EXTERNAL_INTERRUPT, &[(30_000, 9_900)])),
        ("inter-processor-interrupts", many(Key::msr(0x830, 1)), many(Key::msr(0x830, 0))),
        ("end-of-interrupt", exits(EOI_INDUCED, MANY), exits(EOI_INDUCED, FEW)),
        ("xapic", exits(APIC_ACCESS, MANY), exits(APIC_ACCESS, FEW)),
        ("idle", exits(HLT, MANY), exits(PAUSE, MANY)),
        ("halt-polling", polled(2_000_000_000), polled(500_000_000)),
        ("spinning", exits(PAUSE, MANY), exits(PAUSE, FEW)),
        ("lock-contention", many(plain(Hypercall, 5)), many(plain(HvHypercall, 5))),
        ("paravirtual-calls", many(plain(Hypercall, 10)), many(plain(Hypercall, 5))),
        ("missing-pages", each(&[plain(Fault, 0b10)], &[(10_000, 60_000)]), many(plain(Fault, 0b10))),
        ("protected-pages", many(plain(Fault, 0b10_1010)), many(plain(Fault, 0b10))),
        ("cpuid", many(plain(Cpuid, 0x15)), each(&[plain(Cpuid, 0x15)], FEW)),
    ]
}

fn rule(id: &str) -> &'static Rule {
    rules().find(|rule| rule.id == id).unwrap_or_else(|| panic!("no rule {id}"))
}

fn finding<'a>(assessment: &'a Assessment, id: &str) -> Option<&'a Finding> {
    assessment.findings.iter().find(|finding| finding.rule == id)
}

/// Whether the rule has a finding, or an entry among the healthy patterns if that is its only outcome.
fn is_reported(assessment: &Assessment, id: &str) -> bool {
    match rule(id).threshold {
        Threshold::Never => assessment.healthy.iter().any(|healthy| healthy.rule == id),
        _ => finding(assessment, id).is_some(),
    }
}

#[test]
fn rules_match_their_guest_but_not_its_lookalike() {
    let mut tried = BTreeSet::new();
    for (id, its, other) in cases() {
        let (its, other) = (assessed(its.capture()), assessed(other.capture()));
        assert!(is_reported(&its, id), "{id}: {its:?}");
        assert!(!is_reported(&other, id), "{id}: {other:?}");
        // A healthy pattern is not a finding as well.
        if rule(id).threshold == Threshold::Never {
            assert!(its.findings.is_empty(), "{id}: {:?}", its.findings);
        }
        tried.insert(id);
    }
    assert_eq!(tried, rules().map(|rule| rule.id).collect(), "each rule has a case");
}

/// Assessment of a guest on a kernel whose `kvm_exit` format has these names of exit codes.
fn assessed_with_names(capture: Capture, print_fmt: &str) -> (Assessment, String) {
    let mut measurement = capture.recording();
    measurement.reasons = Names::of_format(print_fmt);
    let mut vm = finding::report(&measurement, Scope::default()).vms.remove(0);
    (vm.assessment, vm.tables.exits.remove(0).reason)
}

#[test]
fn rule_spinning_matches_exit_code_not_name() {
    const BUS_LOCK: u32 = 1 << 26;
    let vmx = |code| exits(code, MANY).capture();
    let svm = |code| {
        let spins = vcpu(0, vec![row(Key::reason(code), MANY)], Vec::new());
        Capture::of(Some(Vendor::Svm), "guest", vec![spins])
    };
    let names = "print fmt: \"%s\", (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, \
                 { 10, \"PAUSE_INSTRUCTION\" }, { 40, \"PAUSE\" }) : \
                 __print_symbolic(REC->exit_reason, { 0x72, \"pause\" }, { 0x77, \"spin\" })";
    for (capture, name) in
        [(vmx(PAUSE), "PAUSE"), (vmx(PAUSE | BUS_LOCK), "PAUSE BUS_LOCK"), (svm(SVM_PAUSE), "spin")]
    {
        let (assessment, reason) = assessed_with_names(capture, names);
        assert_eq!(reason, name);
        let spinning = finding(&assessment, "spinning").unwrap_or_else(|| panic!("{name}"));
        assert_eq!(spinning.figures.samples, 20_000, "{name}");
    }
    // CPUID, by the name that a spinning vCPU has in vmexit's own tables.
    for (capture, name) in
        [(vmx(CPUID), "PAUSE_INSTRUCTION"), (svm(SVM_CPUID), "pause"), (svm(PAUSE), "unknown 0x28")]
    {
        let (assessment, reason) = assessed_with_names(capture, names);
        assert_eq!(reason, name);
        assert!(finding(&assessment, "spinning").is_none(), "{name}: {assessment:?}");
    }
}

#[test]
fn rules_below_minimum_samples_find_nothing() {
    for (id, mut its, _) in cases() {
        // The time, and so the cost, stays the same.
        let keys = its.details.len().max(1) as u64;
        for row in its.reasons.iter_mut().chain(&mut its.details) {
            row.row.exits = 390 / keys;
        }
        its.halts = its.halts.map(|halts| Halts { polled: 390, ..halts });
        let assessment = assessed(its.capture());
        assert!(!is_reported(&assessment, id), "{id}: {assessment:?}");
    }
}

#[test]
fn rules_are_complete() {
    let mut ids = BTreeSet::new();
    for rule in rules() {
        assert!(ids.insert(rule.id), "{} twice", rule.id);
        assert!(!rule.sources.is_empty() && !rule.patterns.is_empty(), "{}", rule.id);
        let healthy = rule.threshold == Threshold::Never;
        assert_eq!(healthy, rule.remedies.is_empty(), "{}", rule.id);
        assert_eq!(healthy, rule.cause.is_empty(), "{}", rule.id);
        assert!(!healthy || rule.fine.is_some(), "{}", rule.id);
    }
}

#[test]
fn finding_figures_are_those_of_its_rows() {
    let keys = [Key::pio(0x70, 1, 1), Key::pio(0x71, 0, 1), input(0x608)];
    let assessment = assessed(each(&keys, MANY).capture());
    let rtc = finding(&assessment, "rtc").unwrap();
    assert_eq!((rtc.figures.samples, rtc.figures.per_second), (40_000, 4_000.0));
    assert!((rtc.figures.exits_percent - 66.67).abs() < 0.01, "{:?}", rtc.figures);
    assert!((rtc.figures.time_percent.unwrap() - 66.67).abs() < 0.01, "{:?}", rtc.figures);
    assert_eq!((rtc.gain_core_percent, rtc.evidence.len()), (Some(4.0), 2));
    let rules: Vec<&str> = assessment.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["rtc", "acpi-pm-timer"], "highest cost first");
}

#[test]
fn findings_without_times_rest_on_counts() {
    let pm_timer =
        |count| vec![unmatched(input(0x608), count), unmatched(Key::pio(0x80, 1, 1), count)];
    let silent = |count| Capture::of(None, "guest", vec![vcpu(0, Vec::new(), pm_timer(count))]);
    let found = assessed(silent(20_000));
    let timer = finding(&found, "acpi-pm-timer").unwrap();
    assert_eq!((timer.gain_core_percent, timer.figures.time_percent), (None, None));
    assert_eq!((timer.figures.exits_percent, timer.confidence), (50.0, Confidence::Medium));
    assert!(assessed(silent(9_000)).findings.is_empty(), "less than 1,000 per second");

    let untimed = Capture { timing: Timing::Off, ..many(input(0x608)).capture() };
    let found = assessed(untimed);
    assert_eq!(finding(&found, "acpi-pm-timer").unwrap().confidence, Confidence::Medium);
}

#[test]
fn findings_with_few_timed_samples_have_no_gain() {
    let timed = |timed: u64| {
        let mut activity = many(input(0x608));
        for row in activity.reasons.iter_mut().chain(&mut activity.details) {
            // As slow as an exit of a preempted thread.
            (row.row.untimed, row.row.total_ns) = (20_000 - timed, timed * 1_000_000);
        }
        let found = assessed(Capture { timing: Timing::OneIn(1_000), ..activity.capture() });
        let timer = finding(&found, "acpi-pm-timer").unwrap();
        (timer.gain_core_percent, timer.figures.time_percent, timer.confidence)
    };
    assert_eq!(timed(99), (None, None, Confidence::Medium));
    assert_eq!(timed(100), (Some(200.0), Some(100.0), Confidence::High));
}

#[test]
fn findings_include_rows_cut_from_tables() {
    let keys = [input(0x608), Key::pio(0x70, 1, 1), input(0x71)];
    let options = TableOptions { rows: Some(1), ..TableOptions::default() };
    let report = each(&keys, MANY).capture().report();
    let json = vmexit_view::render(report, &options, ReportFormat::Json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let vm = &json["vms"][0];
    assert_eq!(vm["details"]["ioport"].as_array().unwrap().len(), 1, "{vm}");
    assert_eq!(vm["findings"].as_array().unwrap().len(), 2, "{vm}");

    let scope = Scope { vms: Selection::Vm(1), ..Scope::default() };
    let found = assessed(Capture { scope, ..each(&keys, MANY).capture() });
    assert!(found.findings.is_empty(), "a VM without tables: {found:?}");
}

/// A capture of a VM whose QEMU has these features on or off.
fn with_features(features: &[(Feature, bool)], activity: Activity) -> Capture {
    let mut capture = activity.capture();
    capture.guest.profile =
        Profile { features: features.iter().copied().collect(), ..Profile::default() };
    capture
}

fn advice(capture: Capture, rule: &str, os: Os) -> Option<Advice> {
    let found = assessed(capture);
    let finding = finding(&found, rule).unwrap();
    finding.remedies.iter().find(|advice| advice.os == os).cloned()
}

#[test]
fn windows_remedy_lists_missing_enlightenments() {
    use Feature::{HvStimer, HvSynic, HvTime, HvVpindex};
    let remedy = |features: &[(Feature, bool)]| {
        advice(with_features(features, many(input(0x608))), "acpi-pm-timer", Os::Windows).unwrap()
    };
    let all = remedy(&[(HvTime, false)]);
    let xml = "<clock>\n  <timer name='hypervclock' present='yes'/>\n</clock>\n<features>\n  <hyperv>\n    \
               <vpindex state='on'/>\n    <synic state='on'/>\n    <stimer state='on'/>\n  </hyperv>\n\
               </features>";
    assert_eq!(all.libvirt.as_deref(), Some(xml));
    let flags = "-cpu …,hv-time=on,hv-vpindex=on,hv-synic=on,hv-stimer=on";
    assert_eq!(all.qemu.as_deref(), Some(flags));
    assert!(!all.offered && all.inside.unwrap().contains("useplatformclock"));

    let rest = remedy(&[(HvTime, true), (HvVpindex, true), (HvSynic, false)]);
    assert_eq!(rest.qemu.as_deref(), Some("-cpu …,hv-synic=on,hv-stimer=on"));
    assert!(!rest.libvirt.unwrap().contains("hypervclock"));

    let none = remedy(&[(HvTime, true), (HvVpindex, true), (HvSynic, true), (HvStimer, true)]);
    assert_eq!((none.libvirt, none.qemu, none.offered), (None, None, true));
    assert!(
        none.inside.unwrap().contains("useplatformclock"),
        "only advice for inside the guest remains"
    );
}

#[test]
fn remedies_omit_settings_already_made() {
    use Feature::*;
    let all = [
        HvTime,
        HvVpindex,
        HvSynic,
        HvStimer,
        HvVapic,
        HvSpinlocks,
        HvIpi,
        HvTlbflush,
        HvAvic,
        Kvmclock,
        KvmPvEoi,
        KvmPvIpi,
        KvmPvUnhalt,
        X2apic,
        Invtsc,
    ];
    let made = all.map(|feature| (feature, true)).into_iter();
    let made: Vec<_> = made.chain([(Hpet, false), (Vmport, false)]).collect();
    for (id, its, _) in cases() {
        let found = assessed(with_features(&made, its));
        for advice in found.findings.iter().flat_map(|finding| &finding.remedies) {
            let switches = ["-cpu", "hpet", "vmport"];
            let qemu = advice.qemu.as_deref().unwrap_or_default();
            assert!(!switches.iter().any(|switch| qemu.contains(switch)), "{id}: {advice:?}");
        }
    }
}

#[test]
fn remedies_match_guest_os() {
    let oses = |features: &[(Feature, bool)], more: &[Key]| {
        let keys: Vec<Key> = [&[read(0xfed0_00f0)], more].concat();
        let found = assessed(with_features(features, each(&keys, MANY)));
        let remedies = finding(&found, "hpet").unwrap().remedies.iter();
        (found.guest_os.os, remedies.map(|advice| advice.os).collect::<Vec<_>>())
    };
    let (windows, linux) = (vec![Os::Windows], vec![Os::Linux]);
    assert_eq!(oses(&[], &[]), (Os::Unknown, vec![Os::Windows, Os::Linux]));
    assert_eq!(oses(&[(Feature::HvTime, true)], &[]), (Os::Windows, windows.clone()));
    assert_eq!(oses(&[(Feature::DirectKernel, true)], &[]), (Os::Linux, linux.clone()));
    let local = [(Feature::RtcLocaltime, true)];
    assert_eq!(oses(&local, &[]), (Os::Windows, vec![Os::Windows, Os::Linux]), "a guess");
    // Its activity is stronger evidence than its configuration.
    assert_eq!(oses(&[(Feature::HvTime, true)], &[Key::msr(0x4b56_4d01, 1)]), (Os::Linux, linux));
    assert_eq!(oses(&[], &[plain(Kind::HvHypercall, 0x5c)]), (Os::Windows, windows));
}

#[test]
fn hpet_remedy_removes_hpet_on_linux_only() {
    let hpet = |os| {
        let capture = with_features(&[(Feature::Kvmclock, true)], many(read(0xfed0_00f0)));
        advice(capture, "hpet", os).unwrap()
    };
    let xml = "<clock>\n  <timer name='hpet' present='no'/>\n</clock>";
    assert_eq!(hpet(Os::Linux).libvirt.as_deref(), Some(xml));
    assert_eq!(hpet(Os::Linux).qemu.as_deref(), Some("-machine …,hpet=off"));
    assert!(!hpet(Os::Windows).libvirt.unwrap().contains("hpet"));
}

#[test]
fn remedies_for_other_vmms_have_no_domain_xml() {
    let mut capture = many(input(0x608)).capture();
    capture.guest.vmm = vmexit_core::vm::Vmm::CloudHypervisor;
    let advice = advice(capture, "acpi-pm-timer", Os::Windows).unwrap();
    assert_eq!((advice.libvirt, advice.qemu, advice.offered), (None, None, false));
}

/// A Windows guest that uses an emulated clock, with the proportions of a real one.
fn windows() -> Report {
    let ports = [
        (input(0x608), 158_788),
        (Key::pio(0x70, 1, 1), 48_975),
        (Key::pio(0x71, 0, 1), 47_791),
        (Key::pio(0x71, 1, 1), 1_184),
    ];
    let activity = Activity {
        reasons: vec![
            row(Key::reason(IO), &[(11_480, 256_738)]),
            row(Key::reason(EXTERNAL_INTERRUPT), &[(1_100, 37_002)]),
            row(Key::reason(48), &[(4_000, 25_381)]),
            row(Key::reason(EOI_INDUCED), &[(2_000, 18_709)]),
            row(Key::reason(HLT), &[(30_000_000, 1_105)]),
        ],
        details: ports.map(|(port, count)| row(port, &[(11_480, count)])).into(),
        ..Activity::default()
    };
    let features = [(Feature::HvVapic, true), (Feature::HvSpinlocks, true)];
    with_features(&features, activity).report()
}

#[test]
fn explain_of_windows_guest_in_full() {
    insta::assert_snapshot!(vmexit_view::explain(&windows()));
}

#[test]
fn explain_without_findings() {
    let quiet = many(plain(Kind::FastMmio, 0xfe00_3000)).capture().report();
    insta::assert_snapshot!(vmexit_view::explain(&quiet));
    let silent = vcpu(0, Vec::new(), vec![unmatched(input(0x608), 10)]);
    insta::assert_snapshot!(vmexit_view::explain(
        &Capture::of(None, "a\x1b[2Jb", vec![silent]).report()
    ));
}

#[test]
fn report_text_has_a_line_per_finding() {
    let text =
        vmexit_view::render(windows(), &TableOptions::default(), ReportFormat::Text).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("finding:")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
