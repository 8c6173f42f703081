//! The agent in the AMD lab, compared with the known exits of bare guests, KVM's own counter, the kernel's histogram
//! triggers and `perf kvm stat`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use vmexit_tests::{
    agent::{JsonReport, JsonRow},
    guest::{BareGuest, Expected, PortDirection, Qemu, address},
    hist_triggers,
    lab::{Lab, LabVendor},
    scenario::{self, Printed, beside_perf, capture, capture_all, start, watch},
};

const ROUNDS: u64 = 60;

fn run(guest: &BareGuest, lab: impl FnOnce(Lab) -> Lab, script: &str) -> Printed {
    let lab = lab(scenario::lab(LabVendor::Amd, guest).unwrap().timeout(Duration::from_secs(240)));
    Printed::by(&lab, script).unwrap_or_else(|error| panic!("{error:#}"))
}

fn samples(row: Option<JsonRow<'_>>) -> u64 {
    row.map_or(0, |row| row.samples().unwrap())
}

/// Demands exact counts of ports, registers and exit reasons, by Linux's names for AMD.
fn assert_exact(report: &JsonReport, vm: &str, expected: &Expected) {
    report.ensure_ports(vm, expected).unwrap();
    report.ensure_registers(vm, expected).unwrap();
    for (reason, count) in
        [("io", expected.io()), ("cpuid", expected.cpuid), ("msr", expected.msr())]
    {
        assert_eq!(report.exits_for(vm, reason).unwrap(), count, "{reason}");
    }
}

#[test]
fn exit_counts_on_raw_tracepoints_match_guest_and_kvm() {
    assert_exit_counts_match_guest_and_kvm("raw");
}

#[test]
fn exit_counts_on_classic_tracepoints_match_guest_and_kvm() {
    assert_exit_counts_match_guest_and_kvm("classic");
}

#[test]
fn port_rows_filled_by_boot_are_evicted_for_later_ports() {
    const ROUNDS: u64 = 1_000;
    let guest = BareGuest::boot().rounds(ROUNDS as u32);
    let printed = run(&guest, |lab| lab, &capture_all("boot", ROUNDS, ""));
    let report = printed.report().unwrap();
    report.ensure_rows_for("boot", &guest, ROUNDS).unwrap();
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
    // No evicted row has lost a duration.
    let timed = |row: &JsonRow<'_>| row.count("timed").unwrap();
    let rows = report.ports("boot").unwrap();
    assert_eq!(rows.iter().map(timed).sum::<u64>(), guest.expected(ROUNDS).io());
    let other = rows.iter().find(|row| row.is_other()).unwrap();
    assert!(other.samples().unwrap() > 0);
    other.ensure_all_durations().unwrap();
}

/// A guest in which every kind of exit except the dots costs more than 1 % of a core.
const BUSY: BareGuest = BareGuest {
    rounds: 0,
    pm_timer_in: 10,
    rtc_out: 10,
    rtc_in: 10,
    cpuid: 10,
    hlt: 8,
    hpet_read: 10,
    bar_read: 10,
    string_out: 10,
    ..BareGuest::pm_timer(0)
};

#[test]
fn findings_of_busy_guest_match_its_accesses() {
    let debug = "isa-debugcon,chardev=debug,iobase=0x5800";
    let qemu = Qemu::nested("busy").arg("-device").arg(Qemu::VIRTIO);
    let qemu = qemu.arg("-chardev").arg("null,id=debug").arg("-device").arg(debug);
    let script = scenario::start_on(qemu)
        + r#"
echo cont >&3
wait_dots 2
for way in ask guess; do
    vmexit capture -q -d 4s --devices $way -f json -o /tmp/report.json
    echo "== $way"; cat /tmp/report.json
done
"#;
    let printed = run(&BUSY, |lab| lab, &script);
    let report = |way| JsonReport::parse(printed.section(way).unwrap().as_bytes()).unwrap();
    let (asked, guessed) = (report("ask"), report("guess"));
    for rule in [
        "acpi-pm-timer",
        "rtc",
        "hpet",
        "debug-console",
        "timer-programming",
        "end-of-interrupt",
        "cpuid",
    ] {
        let finding = asked.finding("busy", rule).unwrap();
        println!("{rule}: up to {}% of a core", finding.field("gain_core_percent"));
    }
    assert!(asked.healthy("busy").unwrap().contains(&"idle"));
    let device = guessed.finding("busy", "emulated-device").unwrap();
    assert_eq!(device.field("evidence")[0]["number"], address::BAR);
    assert!(asked.finding("busy", "emulated-device").is_err(), "QEMU has named the device");
    assert!(guessed.finding("busy", "debug-console").is_err(), "only QEMU knows the device");
}

fn assert_exit_counts_match_guest_and_kvm(tracepoints: &str) {
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let script = capture_all("exact", ROUNDS, &format!("--tracepoints {tracepoints}"));
    let printed = run(&guest, |lab| lab, &script);
    let report = printed.report().unwrap();
    let exits = printed.number("exits").unwrap();

    println!("{}, KVM's own counter: {exits}", report.accounting());
    report.ensure_series("exact").unwrap();
    let rounds = printed.number("dots").unwrap();
    assert_eq!(rounds, ROUNDS);
    let mut expected = guest.expected(rounds).with_missed_hlts(printed.number("missed").unwrap());
    assert_exact(&report, "exact", &expected);
    // The last HLT never ends.
    expected.hlt -= 1;
    assert_eq!(report.exits_for("exact", "hlt").unwrap(), expected.hlt);
    assert_eq!(report.count("/accounting/in_flight").unwrap(), 1);

    let observed = report.count("/accounting/observed").unwrap();
    let rows = report.exits("exact").unwrap();
    let recorded: u64 = rows.iter().map(|row| row.samples().unwrap()).sum();
    assert_eq!(observed, recorded + 1, "nothing is lost");
    assert_eq!(report.count("/accounting/recorded").unwrap(), recorded);
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
    assert_eq!(observed, exits, "KVM's own counter");
    assert_eq!(report.text("/source").unwrap(), "exits");
    assert_eq!(report.text("/host/vendor").unwrap(), "svm");
}

#[test]
fn exit_counts_with_timing_off_or_sampled_stay_exact() {
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let agents = [("off", capture("--timing off")), ("some", capture("--timing 1/16"))];
    let script = watch("untimed", ROUNDS, &agents);
    let printed = run(&guest, |lab| lab, &script);
    let mut expected = guest.expected(ROUNDS).with_missed_hlts(printed.number("missed").unwrap());
    // The last HLT never ends.
    expected.hlt -= 1;
    let off = JsonReport::parse(printed.section("off").unwrap().as_bytes()).unwrap();
    assert_exact(&off, "untimed", &expected);
    assert_eq!(off.exits_for("untimed", "hlt").unwrap(), expected.hlt);
    assert_eq!(off.count("/accounting/unaccounted").unwrap(), 0);
    assert_eq!(off.count("/accounting/in_flight").unwrap(), 1);
    assert!(off.ports("untimed").unwrap().iter().all(|row| row.count("unmatched").unwrap() == 0));
    assert!(off.exits("untimed").unwrap().iter().all(|row| row.count("timed").unwrap() == 0));

    let some = JsonReport::parse(printed.section("some").unwrap().as_bytes()).unwrap();
    assert_exact(&some, "untimed", &expected);
    assert_eq!(some.count("/accounting/unaccounted").unwrap(), 0);
    let exits = some.exits("untimed").unwrap();
    let io = exits.iter().find(|row| row.reason() == Some("io")).unwrap();
    let share = io.samples().unwrap() / io.count("timed").unwrap();
    assert!((8..=32).contains(&share), "1/{share} was timed, not 1/16");
    let estimate = io.count("avg_ns").unwrap() * io.samples().unwrap();
    let total = io.count("total_ns").unwrap();
    assert!(total.abs_diff(estimate) * 100 < total, "{total} ns is no estimate of {estimate} ns");
}

#[test]
fn access_counts_match_kernel_hist_triggers() {
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let script =
        hist_triggers::start() + &capture_all("summed", ROUNDS, "") + &hist_triggers::print();
    let printed = run(&guest, |lab| lab, &script);
    let report = printed.report().unwrap();
    for trigger in hist_triggers::ALL {
        let (ours, other) = report.accesses("summed", trigger.table).unwrap();
        println!("{}, by number and whether written: {ours:x?}", trigger.table);
        assert!(!ours.is_empty(), "no {}", trigger.table);
        assert_eq!((ours, other), (trigger.accesses(&printed).unwrap(), 0), "{}", trigger.table);
    }
}

#[test]
fn running_guest_counts_keep_ratio_of_a_round() {
    let guest = BareGuest::demo();
    let script = start("endless")
        + "
echo cont >&3
wait_dots 3
vmexit capture -q -d 5s -f json > /tmp/report.json
echo '== missed'; missed
echo '== report'; cat /tmp/report.json
";
    let printed = run(&guest, |lab| lab, &script);
    let report = printed.report().unwrap();
    let port = |port, direction| samples(report.port("endless", port, direction).unwrap());
    let each = guest.per_round();
    let rtc = (address::RTC_INDEX, PortDirection::Out);
    let rounds = port(rtc.0, rtc.1) / each.ports[&rtc].exits;
    assert!(rounds > 3, "{rounds} rounds in 5 s");
    let missed = printed.number("missed").unwrap();
    let near = |what: &str, seen: u64, each: u64| {
        // The capture begins and ends within a round; a dash on the serial port stands for a HLT.
        let range = (rounds - 1) * each - missed..=(rounds + 2) * each + missed;
        assert!(range.contains(&seen), "{what}: {seen} in {rounds} rounds of {each}");
    };
    for (&(number, direction), accesses) in &each.ports {
        near(&format!("{number:#x} {direction:?}"), port(number, direction), accesses.exits);
    }
    for (reason, count) in [("cpuid", each.cpuid), ("msr", each.msr()), ("hlt", each.hlt)] {
        near(reason, report.exits_for("endless", reason).unwrap(), count);
    }
}

/// Rows of `perf kvm stat report`: name, samples, average time in µs.
fn perf_rows(report: &str) -> Vec<(String, u64, f64)> {
    report
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let percent = words.iter().position(|word| word.ends_with('%'))?;
            let samples = words.get(percent.checked_sub(1)?)?.parse().ok()?;
            let name = words[..percent - 1].join(" ");
            let times: Vec<f64> =
                words.iter().filter_map(|word| word.strip_suffix("us")?.parse().ok()).collect();
            Some((name, samples, *times.get(2)?))
        })
        .collect()
}

#[test]
fn perf_kvm_stat_agrees_on_counts_not_on_port_read_time() {
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let script = beside_perf("beside-perf", ROUNDS)
        + r#"
echo "== vmexit"; perf kvm -i /tmp/perf.data stat report --event=vmexit 2>&1
echo "== ioport"; perf kvm -i /tmp/perf.data stat report --event=ioport 2>&1
echo "== report"; cat /tmp/report.json
"#;
    let printed = run(&guest, Lab::perf, &script);
    let report = printed.report().unwrap();
    let close = |what: &str, ours: u64, perfs: u64| {
        assert!(ours.abs_diff(perfs) * 100 <= perfs, "{what}: {ours} here, {perfs} in perf");
    };

    let by_reason = perf_rows(printed.section("vmexit").unwrap());
    assert!(by_reason.len() >= 5, "perf's report: {printed:?}");
    for (reason, samples, _) in &by_reason {
        // With fewer samples, a difference of one is more than a percent.
        if *samples >= 100 {
            close(reason, report.exits_for("beside-perf", reason).unwrap(), *samples);
        }
    }
    let by_port = perf_rows(printed.section("ioport").unwrap());
    assert!(by_port.len() >= 4, "perf's report: {printed:?}");
    let mut perf_read_us = None;
    for (name, perfs, average_us) in by_port {
        let (number, direction) = name.split_once(':').unwrap();
        let number = u16::from_str_radix(number.trim_start_matches("0x"), 16).unwrap();
        let direction = if direction == "PIN" { PortDirection::In } else { PortDirection::Out };
        let ours = samples(report.port("beside-perf", number, direction).unwrap());
        close(&name, ours, perfs);
        if (number, direction) == (address::PM_TIMER, PortDirection::In) {
            perf_read_us = Some(average_us);
        }
    }

    // perf times a port from kvm_pio, which fires for a read only after QEMU has answered.
    let average = |row: JsonRow<'_>| row.count("avg_ns").unwrap() as f64 / 1e3;
    let exits = report.exits("beside-perf").unwrap();
    let io = average(*exits.iter().find(|row| row.reason() == Some("io")).unwrap());
    let read =
        average(report.port("beside-perf", address::PM_TIMER, PortDirection::In).unwrap().unwrap());
    let perf = perf_read_us.expect("perf has 0x608:PIN");
    println!("average of IN 0x608: {read:.1} µs, of io {io:.1} µs; perf says {perf:.1} µs");
    assert!((0.5..2.0).contains(&(read / io)), "a read takes {read} µs, an io exit {io} µs");
    assert!(read > 2.0 * perf, "a read takes {read} µs, perf's tail {perf} µs");
}
