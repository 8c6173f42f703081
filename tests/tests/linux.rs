//! The agent on a Linux guest in the AMD lab: findings for its clocksource, their disappearance with kvm-clock, and
//! complete counts of a boot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use serde_json::{Value, json};
use vmexit_tests::{
    agent::JsonReport,
    guest::{LinuxGuest, address},
    hist_triggers,
    lab::LabVendor,
    scenario::{self, Printed, wait_attached},
};

const CLOCKS: [&str; 4] = ["hpet", "acpi_pm", "kvm-clock", "tsc"];

/// Row that shows a clock: table, number, direction, device.
type ClockRow = (&'static str, u64, &'static str, &'static str);

const HPET: ClockRow = ("mmio", address::HPET_COUNTER, "read", "hpet");
const ACPI_PM: ClockRow = ("ioport", address::PM_TIMER as u64, "in", "acpi-tmr");

/// Message of a rare crash: QEMU's SVM can get the base of GS wrong when an interrupt arrives while the guest enters
/// its kernel. The run is then repeated, because there is no measurement.
const CRASH_OF_THE_EMULATED: &str = "BUG: ENTRY_TRAMPOLINE stack guard page was hit";

fn run(script: &str) -> Printed {
    let lab = scenario::linux_lab(LabVendor::Amd).unwrap().timeout(Duration::from_secs(240));
    for _ in 0..2 {
        match Printed::by(&lab, script) {
            Err(error) if format!("{error:#}").contains(CRASH_OF_THE_EMULATED) => {
                eprintln!("the guest's kernel has crashed: once more");
            }
            printed => return printed.unwrap_or_else(|error| panic!("{error:#}")),
        }
    }
    Printed::by(&lab, script).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Measurements of a guest that only reads its clock, while its clocksource is changed.
struct Clocks {
    /// Reports by clock, in the order of [`CLOCKS`].
    reports: [JsonReport; 4],
    /// Output of `vmexit explain` by clock.
    explained: [String; 4],
    /// Output of `vmexit diff` from the PM timer to kvm-clock.
    diff: Value,
}

fn clocks() -> Clocks {
    let guest = LinuxGuest::new("clocks").parameters("tsc=reliable");
    let clocks = CLOCKS.join(" ");
    let script = guest.start()
        + &format!(
            r#"
tell 'cd /sys/devices/system/clocksource/clocksource0'
# The shell reads the clock without starting a program.
tell 'while :; do : $EPOCHREALTIME; done &'
for clock in {clocks}; do
    tell "echo $clock > current_clocksource"
    echo "== clock of $clock"; tell 'cat current_clocksource'
    vmexit capture -q -d 3s -o /tmp/$clock.vmexit
    echo "== $clock"; vmexit report -f json /tmp/$clock.vmexit
    echo "== explained $clock"; vmexit explain /tmp/$clock.vmexit
done
echo "== text"; vmexit diff /tmp/acpi_pm.vmexit /tmp/kvm-clock.vmexit --top 4
echo "== diff"; vmexit diff -f json /tmp/acpi_pm.vmexit /tmp/kvm-clock.vmexit
"#
        );
    let printed = run(&script);
    let section = |name: String| printed.section(&name).unwrap();
    for clock in CLOCKS {
        assert_eq!(section(format!("clock of {clock}")), clock);
        println!("# {clock}\n{}", section(format!("explained {clock}")));
    }
    println!("# acpi_pm to kvm-clock\n{}", section("text".into()));
    Clocks {
        reports: CLOCKS.map(|clock| JsonReport::parse(section(clock.into()).as_bytes()).unwrap()),
        explained: CLOCKS.map(|clock| section(format!("explained {clock}")).to_owned()),
        diff: serde_json::from_str(section("diff".into())).unwrap(),
    }
}

fn samples(report: &JsonReport, (event, number, direction, _): ClockRow) -> u64 {
    let row = report.detail("clocks", event, number, Some(direction)).unwrap();
    row.map_or(0, |row| row.samples().unwrap())
}

/// Demands that the row has nearly all samples of its table, and that its exit reason is the most frequent one.
fn assert_leads(report: &JsonReport, place: ClockRow, reason: &str) {
    let (event, number, direction, device) = place;
    let rows = report.details("clocks", event).unwrap();
    let first = rows.first().unwrap_or_else(|| panic!("no {event}"));
    assert_eq!((first.number(), first.direction()), (Some(number), Some(direction)), "{rows:?}");
    assert_eq!(first.device_name(), Some(device), "{first:?}");
    let all: u64 = rows.iter().map(|row| row.samples().unwrap()).sum();
    let own = samples(report, place);
    println!("{device}: {own} of {all} {event} samples");
    assert!(own >= 1_000, "{own} readings of the clock in 3 s");
    assert!(own * 10 >= all * 9, "{own} of {all} samples: {rows:?}");
    let exits = report.exits("clocks").unwrap();
    assert_eq!(exits.first().and_then(|row| row.reason()), Some(reason), "{exits:?}");
}

#[test]
fn linux_guest_clocksource_named_by_explain() {
    let clocks = clocks();
    assert_shown(&clocks.reports);
    assert_explained(&clocks);
    assert_saved(&clocks.diff);
}

/// Demands that each clock that is a device leads its table while it is in use, and only then.
fn assert_shown([hpet, acpi_pm, kvm_clock, _]: &[JsonReport; 4]) {
    assert_leads(hpet, HPET, "npf");
    assert_leads(acpi_pm, ACPI_PM, "io");
    for (report, place, in_use) in [
        (acpi_pm, HPET, hpet),
        (kvm_clock, HPET, hpet),
        (hpet, ACPI_PM, acpi_pm),
        (kvm_clock, ACPI_PM, acpi_pm),
    ] {
        let (rest, before) = (samples(report, place), samples(in_use, place));
        assert!(rest * 100 < before, "{}: {rest} samples left of {before}", place.3);
    }
    let handled = |report: &JsonReport| report.count("/vms/0/total/handled_ns").unwrap();
    let [before, after] = [hpet, kvm_clock].map(handled);
    println!("handled in 3 s: {before} ns with the HPET, {after} ns with kvm-clock");
    assert!(after * 2 < before, "{after} ns in place of {before} ns");
}

/// Demands findings for the two clocks that cost, each with its remedy, and none for the others.
fn assert_explained(Clocks { reports, explained, .. }: &Clocks) {
    let [hpet, acpi_pm, kvm_clock, tsc] = reports;
    let remedy = |report: &JsonReport, rule| {
        assert_eq!(report.findings("clocks").unwrap()[0].rule(), rule, "what costs most");
        let finding = report.finding("clocks", rule).unwrap();
        println!("{rule}: up to {}% of a core", finding.field("gain_core_percent"));
        finding.remedy("linux").unwrap().clone()
    };
    // All machines offer kvm-clock, but the guest uses another clock.
    let advice = remedy(hpet, "hpet");
    assert!(advice["libvirt"].as_str().unwrap().contains("<timer name='hpet' present='no'/>"));
    assert_eq!(advice["qemu"], "-machine …,hpet=off");
    let advice = remedy(acpi_pm, "acpi-pm-timer");
    assert_eq!((&advice["offered"], &advice["qemu"]), (&true.into(), &Value::Null));
    assert!(advice["inside"].as_str().unwrap().contains("echo kvm-clock > /sys/"), "{advice}");
    for (report, clock) in [(kvm_clock, "kvm-clock"), (tsc, "tsc")] {
        let findings = report.findings("clocks").unwrap();
        assert!(findings.is_empty(), "{clock}: {findings:?}");
    }

    let [hpet, acpi_pm, kvm_clock, tsc] = explained;
    let says = |text: &str, words: &[&str]| {
        let words = words.iter().filter(|word| !text.contains(**word));
        assert_eq!(words.collect::<Vec<_>>(), Vec::<&&str>::new(), "{text}");
    };
    says(hpet, &["1. The guest", "[hpet]", "0xfed000f0", "<timer name='hpet' present='no'/>"]);
    says(acpi_pm, &["1. The guest", "[acpi-pm-timer]", "0x608 IN", "acpi-tmr", "echo kvm-clock"]);
    for text in [kvm_clock, tsc] {
        says(text, &["Nothing here is worth a change"]);
    }
}

/// Demands that from the PM timer to kvm-clock the timer's port and finding are gone and its cost is saved.
fn assert_saved(diff: &Value) {
    assert_eq!(diff["notes"], json!([]));
    let vm = &diff["vms"][0];
    let first = &vm["tables"]["ioport"][0];
    let timer = json!([ACPI_PM.1, ACPI_PM.2, ACPI_PM.3]);
    assert_eq!(json!([first["number"], first["direction"], first["device"]["name"]]), timer);
    assert!(["gone", "less"].map(Value::from).contains(&first["exits"]["verdict"]), "{first}");
    // The timer's share of the saved time.
    let saved = |change: &Value| -change["difference"].as_f64().unwrap();
    let (timers, all) = (saved(&first["cores"]), saved(&vm["cores"]));
    println!("saved: {all:.3} cores, {timers:.3} of them the timer's");
    assert_eq!(vm["cores"]["verdict"], "less");
    assert!(timers * 2.0 > all && all > 0.0, "{timers} of {all}");
    let finding = &vm["findings"][0];
    assert_eq!(finding["rule"], "acpi-pm-timer");
    assert!(finding["before"].is_object() && finding["after"].is_null(), "{finding}");
}

#[test]
fn linux_boot_counts_match_kernel_hist_triggers() {
    let script = hist_triggers::start()
        + &LinuxGuest::new("boot").begin()
        + &wait_attached()
        + r#"
vmexit capture -q -d 10m -f json -o /tmp/report.json &
agent=$!
wait_attached $agent
echo cont >&4
hear
tell 'echo acpi_pm > /sys/devices/system/clocksource/clocksource0/current_clocksource'
tell 'i=0; while [ $i -lt 5000 ]; do : $EPOCHREALTIME; i=$((i+1)); done'
echo stop >&4
sleep 1
kill -INT $agent
wait $agent
echo "== report"; cat /tmp/report.json
"# + &hist_triggers::print();
    let printed = run(&script);
    let report = printed.report().unwrap();
    // The vCPU was stopped within an exit, which may have been an access.
    let open = report.count("/accounting/in_flight").unwrap();
    assert!(open <= 1, "{}", report.accounting());
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
    let mut all_missing = 0;
    for trigger in hist_triggers::ALL {
        let (ours, other) = report.accesses("boot", trigger.table).unwrap();
        let kernels = trigger.accesses(&printed).unwrap();
        let (all, own) = (kernels.values().sum::<u64>(), ours.values().sum::<u64>());
        let missing = all.checked_sub(own + other).expect("not more than there were");
        all_missing += missing;
        println!(
            "{}: {all} accesses to {} things, {own} of them on {} rows of their own",
            trigger.table,
            kernels.len(),
            ours.len()
        );
        if trigger.table == "ioport" {
            // Thousands of reads, but only after the boot.
            let key = (u64::from(address::PM_TIMER), false);
            let (ours, kernels) = (ours.get(&key).copied().unwrap_or(0), kernels[&key]);
            println!("PM timer: {ours} of {kernels} on its row");
            assert!(kernels >= 5_000 && ours * 10 >= kernels * 9);
        }
        for (key, count) in ours {
            let kernels = kernels.get(&key).copied().unwrap_or(0);
            // The rest are accesses that found no row, or were on a row that was evicted since.
            let range = count..=count + missing + other;
            assert!(range.contains(&kernels), "{key:x?}: {count} here, {kernels} in the kernel");
        }
    }
    assert!(all_missing <= open, "{all_missing} accesses missing: {}", report.accounting());
}
