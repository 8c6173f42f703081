//! The agent on a Linux guest in the AMD lab: which device a guest's clock is, that the cure is seen, and
//! that nothing of a boot is missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use serde_json::{Value, json};
use vmexit_tests::{
    agent::Report,
    guest::{LinuxGuest, address},
    hist,
    lab::Vendor,
    scenario::{self, Printed, wait_attached},
};

const CLOCKS: [&str; 4] = ["hpet", "acpi_pm", "kvm-clock", "tsc"];

/// Where a clock shows: table, number, direction, device.
type Place = (&'static str, u64, &'static str, &'static str);

const HPET: Place = ("mmio", address::HPET_COUNTER, "read", "hpet");
const ACPI_PM: Place = ("ioport", address::PM_TIMER as u64, "in", "acpi-tmr");

fn run(script: &str) -> Printed {
    let lab = scenario::linux_lab(Vendor::Amd).unwrap().timeout(Duration::from_secs(240));
    Printed::by(&lab, script).unwrap_or_else(|error| panic!("{error:#}"))
}

/// One guest, whose clock is changed while it runs, and which does nothing but read it: a report for each
/// clock, and what differs from the PM timer to kvm-clock.
fn reports() -> ([Report; 4], Value) {
    let guest = LinuxGuest::new("clocks").parameters("tsc=reliable");
    let clocks = CLOCKS.join(" ");
    let script = guest.start()
        + &format!(
            r#"
tell 'cd /sys/devices/system/clocksource/clocksource0'
# No program is started for it: the shell reads the clock itself.
tell 'while :; do : $EPOCHREALTIME; done &'
for clock in {clocks}; do
    tell "echo $clock > current_clocksource"
    echo "== clock of $clock"; tell 'cat current_clocksource'
    vmexit capture -q -d 3s -o /tmp/$clock.vmexit
    echo "== $clock"; vmexit report -f json /tmp/$clock.vmexit
done
echo "== text"; vmexit diff /tmp/acpi_pm.vmexit /tmp/kvm-clock.vmexit --top 4
echo "== diff"; vmexit diff -f json /tmp/acpi_pm.vmexit /tmp/kvm-clock.vmexit
"#
        );
    let printed = run(&script);
    println!("{}", printed.section("text").unwrap());
    let reports = CLOCKS.map(|clock| {
        assert_eq!(printed.section(&format!("clock of {clock}")).unwrap(), clock);
        Report::parse(printed.section(clock).unwrap().as_bytes()).unwrap()
    });
    (reports, serde_json::from_str(printed.section("diff").unwrap()).unwrap())
}

fn samples(report: &Report, (event, number, direction, _): Place) -> u64 {
    let row = report.detail("clocks", event, number, Some(direction)).unwrap();
    row.map_or(0, |row| row.samples().unwrap())
}

/// Demands that the place has nearly all samples of its table, and its exit reason of all exits.
fn assert_leads(report: &Report, place: Place, reason: &str) {
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
fn a_clock_shows_as_its_device_and_goes_with_it() {
    let ([hpet, acpi_pm, kvm_clock, tsc], diff) = reports();
    assert_leads(&hpet, HPET, "npf");
    assert_leads(&acpi_pm, ACPI_PM, "io");
    for (report, place, in_use) in [
        (&acpi_pm, HPET, &hpet),
        (&kvm_clock, HPET, &hpet),
        (&hpet, ACPI_PM, &acpi_pm),
        (&kvm_clock, ACPI_PM, &acpi_pm),
    ] {
        let (rest, before) = (samples(report, place), samples(in_use, place));
        assert!(rest * 100 < before, "{}: {rest} samples left of {before}", place.3);
    }
    let handled = |report: &Report| report.count("/vms/0/total/handled_ns").unwrap();
    let [before, after] = [&hpet, &kvm_clock].map(handled);
    println!("handled in 3 s: {before} ns with the HPET, {after} ns with kvm-clock");
    assert!(after * 2 < before, "{after} ns in place of {before} ns");
    let remedy = |report: &Report, rule| {
        assert_eq!(report.findings("clocks").unwrap()[0].rule(), rule, "what costs most");
        let finding = report.finding("clocks", rule).unwrap();
        println!("{rule}: up to {}% of a core", finding.field("gain_core_percent"));
        finding.remedy("linux").unwrap().clone()
    };
    // kvm-clock is offered by all machines, and the guest told to use another.
    let advice = remedy(&hpet, "hpet");
    assert!(advice["libvirt"].as_str().unwrap().contains("<timer name='hpet' present='no'/>"));
    assert_eq!(advice["qemu"], "-machine …,hpet=off");
    let advice = remedy(&acpi_pm, "acpi-pm-timer");
    assert_eq!((&advice["offered"], &advice["qemu"]), (&true.into(), &Value::Null));
    assert!(advice["inside"].as_str().unwrap().contains("echo kvm-clock > /sys/"), "{advice}");
    for (report, clock) in [(&kvm_clock, "kvm-clock"), (&tsc, "tsc")] {
        let findings = report.findings("clocks").unwrap();
        assert!(findings.is_empty(), "{clock}: {findings:?}");
    }

    assert_eq!(diff["notes"], json!([]));
    let ports = &diff["vms"][0]["tables"]["ioport"];
    let (first, timer) = (&ports[0], json!([ACPI_PM.1, ACPI_PM.2, ACPI_PM.3]));
    assert_eq!(json!([first["number"], first["direction"], first["device"]["name"]]), timer);
    assert!(["gone", "less"].map(Value::from).contains(&first["exits"]["verdict"]), "{first}");
    // The timer's part of what the VM saved.
    let saved = |change: &Value| -change["difference"].as_f64().unwrap();
    let (timers, all) = (saved(&first["cores"]), saved(&diff["vms"][0]["cores"]));
    println!("saved: {all:.3} cores, {timers:.3} of them the timer's");
    assert_eq!(diff["vms"][0]["cores"]["verdict"], "less");
    assert!(timers * 2.0 > all && all > 0.0, "{timers} of {all}");
}

#[test]
fn a_boot_adds_up_to_the_kernels_own_sums() {
    let script = hist::start()
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
"# + &hist::print();
    let printed = run(&script);
    let report = printed.report().unwrap();
    // The vCPU was stopped within an exit, which may have been for something.
    let open = report.count("/accounting/open").unwrap();
    assert!(open <= 1, "{}", report.accounting());
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
    let mut all_missing = 0;
    for hist in hist::ALL {
        let (ours, other) = report.accesses("boot", hist.table).unwrap();
        let kernels = hist.accesses(&printed).unwrap();
        let (all, own) = (kernels.values().sum::<u64>(), ours.values().sum::<u64>());
        let missing = all.checked_sub(own + other).expect("not more than there were");
        all_missing += missing;
        println!(
            "{}: {all} accesses to {} things, {own} of them on {} rows of their own",
            hist.table,
            kernels.len(),
            ours.len()
        );
        if hist.table == "ioport" {
            // Asked for by the thousand, but only after the boot.
            let key = (u64::from(address::PM_TIMER), false);
            let (ours, kernels) = (ours.get(&key).copied().unwrap_or(0), kernels[&key]);
            println!("PM timer: {ours} of {kernels} on its row");
            assert!(kernels >= 5_000 && ours * 10 >= kernels * 9);
        }
        for (key, count) in ours {
            let kernels = kernels.get(&key).copied().unwrap_or(0);
            // What found no row, and what was on one that was given up since.
            let range = count..=count + missing + other;
            assert!(range.contains(&kernels), "{key:x?}: {count} here, {kernels} in the kernel");
        }
    }
    assert!(all_missing <= open, "{all_missing} accesses missing: {}", report.accounting());
}
