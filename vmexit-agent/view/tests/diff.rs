//! Comparison of two recordings: savings, noise, findings, and the matching of VMs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use vmexit_common::key::Key;
use vmexit_core::{
    diff::{Diff, MatchedBy, RowDiff, Verdict},
    event::Event,
    measurement::Measurement,
    timing::Timing,
    vendor::Vendor,
};
use vmexit_view::Format;

use self::made_up::{SECOND, recording, row, vcpu};

/// A guest with a number of reads of the PM timer, and a number of halts.
fn guest(name: &str, reads: u32, halts: u32) -> Measurement {
    let reasons = vec![
        row(Key::reason(30), &[(6_000, reads), (4_000, 30_000)]),
        row(Key::reason(12), &[(1_000_000, halts)]),
        row(Key::reason(1), &[(900, 1_000)]),
    ];
    let details = vec![
        row(Key::pio(0x608, 0, 4), &[(6_000, reads)]),
        row(Key::pio(0x3f8, 1, 1), &[(4_000, 30_000)]),
    ];
    recording(Some(Vendor::Vmx), name, vec![vcpu(0, reasons, details)])
}

/// The row of a port.
fn port(diff: &Diff, number: u64) -> &RowDiff {
    let rows = &diff.vms[0].tables[&Event::Ioport];
    rows.iter().find(|row| row.subject.number == Some(number)).unwrap()
}

fn text(diff: &Diff) -> String {
    String::from_utf8(vmexit_view::diff(diff, Format::Text).unwrap().to_vec()).unwrap()
}

#[test]
fn diff_of_unused_clock_is_gone_with_time_saved() {
    let (before, after) = (guest("win10", 150_000, 500), guest("win10", 0, 500));
    let diff = Diff::between(&before, &after, None);
    let timer = port(&diff, 0x608);
    assert_eq!((timer.exits.verdict, timer.exits.before), (Verdict::Gone, 15_000.0));
    let saved = timer.cores.unwrap();
    // 15,000 per second of 6 µs each.
    assert!((saved.difference + 0.09).abs() < 1e-9, "{saved:?}");
    assert_eq!(port(&diff, 0x3f8).exits.verdict, Verdict::Noise);
    assert!(!port(&diff, 0x3f8).is_real());
    let cores = diff.cores.unwrap();
    assert_eq!(cores.verdict, Verdict::Less);
    assert!((cores.difference + 0.09).abs() < 1e-9, "{cores:?}");
    insta::assert_snapshot!(text(&diff));
}

#[test]
fn diff_findings_are_gone_new_or_kept() {
    let (slow, fast) = (guest("win10", 150_000, 500), guest("win10", 0, 500));
    let findings = |diff: &Diff| {
        let found = diff.vms[0].findings.iter();
        found
            .map(|found| (found.rule, found.before.is_some(), found.after.is_some()))
            .collect::<Vec<_>>()
    };
    let (timer, serial) = ("acpi-pm-timer", "serial-port");
    let there = Diff::between(&slow, &fast, None);
    assert_eq!(findings(&there), [(timer, true, false), (serial, true, true)]);
    let back = Diff::between(&fast, &slow, None);
    assert_eq!(findings(&back), [(timer, false, true), (serial, true, true)]);
    let clock = "the guest's clock is the ACPI PM timer";
    assert!(text(&there).contains(&format!("  gone: {clock}; was 82.64% of exits, 9.0%")));
    assert!(text(&back).contains(&format!("  new: {clock}: 82.64% of exits, 9.0%")));
}

#[test]
fn diff_of_added_clock_costs_more() {
    let diff = Diff::between(&guest("a", 0, 500), &guest("a", 150_000, 500), None);
    assert_eq!(port(&diff, 0x608).exits.verdict, Verdict::New);
    assert!(text(&diff).contains("0.09 cores more"), "{}", text(&diff));
}

#[test]
fn diff_of_same_load_is_noise() {
    let diff = Diff::between(&guest("a", 150_000, 500), &guest("a", 150_300, 510), None);
    let rows = diff.vms[0].tables.values().flatten();
    assert!(rows.clone().count() >= 5);
    assert!(rows.clone().all(|row| !row.is_real()));
    let text = text(&diff);
    assert!(!text.contains("saved") && text.contains("within noise"), "{text}");
}

#[test]
fn diff_of_different_spans_compares_rates() {
    let (before, mut after) = (guest("a", 150_000, 500), guest("a", 15_000, 50));
    after.interval.span_ns = SECOND;
    let timer = &Diff::between(&before, &after, None);
    let timer = port(timer, 0x608);
    assert_eq!((timer.exits.before, timer.exits.after), (15_000.0, 15_000.0));
    assert!(!timer.is_real());
}

#[test]
fn diff_of_waiting_changes_no_cost() {
    let diff = Diff::between(&guest("a", 1_000, 5_000), &guest("a", 1_000, 50), None);
    let halt = diff.vms[0].tables[&Event::Vmexit].iter().find(|row| row.waits).unwrap();
    assert_eq!((halt.exits.verdict, halt.cores.is_none()), (Verdict::Less, true));
    assert_eq!(diff.cores.unwrap().verdict, Verdict::Noise);
}

#[test]
fn diff_with_times_missing_compares_counts_only() {
    let (before, mut after) = (guest("a", 150_000, 500), guest("a", 0, 500));
    after.timing = Timing::Off;
    let diff = Diff::between(&before, &after, None);
    assert!(diff.cores.is_none() && diff.vms[0].cores.is_none());
    assert!(diff.vms[0].tables.values().flatten().all(|row| row.cores.is_none()));
    assert_eq!(port(&diff, 0x608).exits.verdict, Verdict::Gone);
    assert_eq!(diff.notes, ["Timed exits differ: all before, none (timing off) after."]);
}

#[test]
fn diff_notes_name_host_and_event_differences() {
    let before = guest("a", 150_000, 500);
    let mut after = guest("a", 150_000, 500);
    after.host.kernel = "6.12.0".into();
    after.host.vendor = Some(Vendor::Svm);
    after.retain_events(&[Event::Vmexit, Event::Ioport].into());
    let diff = Diff::between(&before, &after, None);
    let notes = diff.notes.join("\n");
    assert!(notes.contains("The kernels differ: 6.1.0 before, 6.12.0 after."), "{notes}");
    assert!(
        notes.contains("Exit reasons and page faults are not compared: the CPU vendors differ."),
        "{notes}"
    );
    assert!(notes.contains("in one recording only: mmio, msr, cpuid,"), "{notes}");
    assert_eq!(diff.vms[0].tables.keys().collect::<Vec<_>>(), [&Event::Ioport]);
}

/// A recording with the VM of each of two, of which the second gets another process ID.
fn together(one: Measurement, other: Measurement, pid: u32) -> Measurement {
    let mut both = one;
    let mut other = other;
    other.vms[0].pid = pid;
    other.interval.vcpus[0].thread.pid = pid;
    both.vms.extend(other.vms);
    both.interval.vcpus.extend(other.interval.vcpus);
    both
}

fn matches(diff: &Diff) -> Vec<(&str, Option<MatchedBy>)> {
    let mut matches: Vec<_> = diff.vms.iter().map(|vm| (vm.name.as_str(), vm.matched)).collect();
    matches.sort_by_key(|(name, _)| *name);
    matches
}

#[test]
fn diff_matches_vms_by_name_then_uuid_then_pid() {
    let vm = |name: &str| guest(name, 1_000, 10);
    let same_name = together(vm("a"), vm("b"), 7);
    let mut others = together(vm("b"), vm("c"), 8);
    assert_eq!(
        matches(&Diff::between(&same_name, &others, None)),
        [("b", Some(MatchedBy::Name)), ("c", Some(MatchedBy::Rest))]
    );
    let mut renamed = together(vm("b"), vm("a"), 7);
    renamed.vms[1].uuid = Some("c7a5fdbd".into());
    others.vms[1].uuid = Some("c7a5fdbd".into());
    assert_eq!(
        matches(&Diff::between(&renamed, &others, None)),
        [("b", Some(MatchedBy::Name)), ("c", Some(MatchedBy::Uuid))]
    );
    let three = together(together(vm("x"), vm("y"), 7), vm("z"), 8);
    let four = together(together(vm("u"), vm("v"), 7), vm("w"), 9);
    assert_eq!(
        matches(&Diff::between(&three, &four, None)),
        [("u", Some(MatchedBy::Pid)), ("v", Some(MatchedBy::Pid)), ("w", Some(MatchedBy::Rest))]
    );
    // A name that two VMs share matches none of them.
    let twins = together(vm("a"), vm("a"), 7);
    assert_eq!(
        matches(&Diff::between(&twins, &twins, None)),
        [("a", Some(MatchedBy::Pid)), ("a", Some(MatchedBy::Pid))]
    );
}

#[test]
fn diff_vm_on_one_side_is_listed_but_not_summed() {
    let (alone, both) =
        (guest("a", 1_000, 10), together(guest("a", 1_000, 10), guest("new", 150_000, 10), 7));
    let diff = Diff::between(&alone, &both, None);
    assert_eq!(matches(&diff), [("a", Some(MatchedBy::Name)), ("new", None)]);
    assert_eq!(diff.cores.unwrap().verdict, Verdict::Noise);
    assert!(text(&diff).contains("new (pid 7): only after, 18,"), "{}", text(&diff));
}

#[test]
fn diff_tables_keep_row_limit() {
    let diff = Diff::between(&guest("a", 150_000, 10), &guest("a", 0, 10), Some(1));
    let vm = &diff.vms[0];
    assert!(vm.tables.values().all(|rows| rows.len() == 1));
    assert_eq!((vm.hidden[&Event::Vmexit], vm.hidden[&Event::Ioport]), (2, 1));
    assert_eq!(vm.tables[&Event::Ioport][0].subject.number, Some(0x608));
}

#[test]
fn diff_without_exits_compares_other_events() {
    let diff = Diff::between(&made_up::silent(), &made_up::silent(), None);
    let note = "KVM reported no exits in either recording: its other events are compared.";
    assert_eq!(diff.notes, [note]);
    assert_eq!(port(&diff, 0x608).exits.before, 100.0);
    let text = text(&diff);
    assert!(text.contains("(pid 4242, 1 vCPU)\n") && !text.contains("exits/s"), "{text}");
}

#[test]
fn diff_of_empty_recordings_is_empty() {
    let mut nothing = guest("a", 0, 0);
    nothing.retain_vms(&[].into());
    nothing.interval.span_ns = 0;
    let diff = Diff::between(&nothing, &nothing, None);
    assert!(diff.vms.is_empty() && diff.cores.is_none());
    let some = Diff::between(&nothing, &made_up::silent(), None);
    assert!(!text(&some).contains("NaN") && !text(&some).contains('\x1b'), "{}", text(&some));
}

#[test]
fn diff_json_fields_are_documented() {
    let docs = include_str!("../../../docs/json.md");
    let diff = Diff::between(&guest("a", 150_000, 10), &guest("a", 0, 10), Some(1));
    let json = vmexit_view::diff(&diff, Format::Json).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let mut names = std::collections::BTreeSet::new();
    made_up::fields(&value, &mut names);
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
    }
}
