//! Sampling in the AMD lab, by a duty and by a budget: counts are those of the windows, estimates are near KVM's own
//! counter, and the cost is within the budget.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{ops::Range, time::Duration};

use vmexit_tests::{
    agent::JsonReport,
    guest::BareGuest,
    lab::{Lab, LabVendor},
    scenario::{self, Printed, start},
};

fn run(guest: &BareGuest, lab: impl FnOnce(Lab) -> Lab, script: &str) -> Printed {
    let lab = lab(scenario::lab(LabVendor::Amd, guest).unwrap().timeout(Duration::from_secs(420)));
    Printed::by(&lab, script).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Difference of a figure from another, percent.
fn off(figure: f64, from: f64) -> f64 {
    100.0 * (figure - from).abs() / from
}

#[test]
fn duty_windows_count_exits_within_them() {
    let guest = BareGuest { rtc_out: 20, rtc_in: 20, cpuid: 40, ..BareGuest::pm_timer(40) };
    let mut script =
        start("windows") + MEASURE + "echo cont >&3\nwait_dots 3\necho '== rate'; measure 2\n";
    let ways =
        [("all", ""), ("some", "--timing 1/8 --tracepoints classic"), ("off", "--timing off")];
    for (name, options) in ways {
        script += &format!(
            "vmexit capture -q -d 5s --duty 150ms/600ms {options} -f json -o /tmp/report.json
             echo '== {name}'; cat /tmp/report.json\n"
        );
    }
    let printed = run(&guest, Lab::instruction_clock, &script);
    let kvms = printed.number("rate").unwrap() as f64 / 1e3;
    for (name, _) in ways {
        let report = JsonReport::parse(printed.section(name).unwrap().as_bytes()).unwrap();
        let count = |field: &str| report.count(&format!("/accounting/{field}")).unwrap();
        println!("{name}: {}", report.accounting());
        assert!(count("observed") > 1_000);
        for none in [
            "lost/no_entry",
            "lost/vcpu_limit",
            "lost/vcpu_table_full",
            "lost/unreadable",
            "unaccounted",
            "torn",
        ] {
            assert_eq!(count(none), 0, "{name}: {none}");
        }
        // At most one for each window, if it opened within an exit.
        assert!(count("unmatched") <= 9, "{name}: {} unmatched", count("unmatched"));
        let watched = report.number("/span/seconds").unwrap();
        let unwatched = report.number("/span/unwatched_seconds").unwrap();
        assert!((0.9..1.8).contains(&watched), "{name}: {watched}");
        assert!((4.5..5.5).contains(&(watched + unwatched)), "{name}: {unwatched}");
        // The cost in open windows slows the guest down: classic tracepoints by two fifths (docs/overhead.md, beside
        // perf).
        let rate = report.number("/vms/0/total/per_second").unwrap();
        let error = report.number("/vms/0/total/rate_error_percent").unwrap();
        println!(
            "{name}: {rate:.0}/s ± {error:.1} %, {kvms:.0}/s without: {:.1} % off",
            off(rate, kvms)
        );
        assert!((0.0..10.0).contains(&error) && rate < kvms * 1.1 && off(rate, kvms) < 50.0);
        // Ports have the proportions of the guest.
        let ports = report.ports("windows").unwrap();
        let samples = |port: u64| {
            let rows = ports.iter().filter(|row| row.number() == Some(port));
            rows.map(|row| row.samples().unwrap()).sum::<u64>() as f64
        };
        assert!(off(samples(0x70) * 2.0, samples(0x608)) < 3.0, "{name}");
        // No duration includes time between windows.
        for row in report.exits("windows").unwrap() {
            let longest = row.count("max_ns").unwrap_or(0);
            assert!(longest < 150_000_000, "{name}: {longest}");
        }
    }
}

/// Script that defines `measure SECONDS`: the rate of exits, per 1,000 s, by KVM's own counter and the lab's clock.
const MEASURE: &str = r#"
# Nanoseconds; /proc/uptime has only hundredths of a second.
clock() {
    while read -r name _ value; do [ "$name" = ktime ] && break; done < /sys/kernel/debug/sched/debug
    echo "${value%.*}${value#*.}"
}
measure() {
    a=$(cat $kvm/exits); t=$(clock)
    sleep $1
    b=$(cat $kvm/exits); u=$(clock)
    echo "$(((b - a) * 1000000000 / ((u - t) / 1000)))"
}
"#;

/// Measures the rate of exits without and with vmexit, by KVM's own counter and the lab's clock. The lab has one CPU,
/// so all time that vmexit takes, in the kernel and in its process, is lost to the guest. An instruction takes 2 ns,
/// some four times as long as on real hardware.
///
/// The measurement is as long as an interval, so it includes one reading, one window and one write of a file.
fn cost(name: &str, rate: Range<f64>, guest: &BareGuest) {
    let script = start("busy")
        + MEASURE
        + r#"
echo cont >&3
wait_dots 3
echo "== without"; measure 5
vmexit record /tmp/kept --interval 5s --budget 0.5% 2> /tmp/said &
agent=$!
wait_attached $agent
sleep 5
echo "== with"; measure 5
kill -TERM $agent
wait $agent
echo "== said"; cat /tmp/said
echo "== report"; vmexit report /tmp/kept -f json
"#;
    let printed = run(guest, |lab| lab.instruction_clock_of(1), &script);
    let per_second = |section: &str| printed.number(section).unwrap() as f64 / 1e3;
    let (without, with) = (per_second("without"), per_second("with"));
    let cost = 100.0 * (1.0 - with / without);
    let report = JsonReport::parse(printed.section("report").unwrap().as_bytes()).unwrap();
    let of = |field: &str| report.number(field).unwrap();
    println!(
        "{name}: {without:.0} exits/s, cost {cost:.3} % by the clock; it says {:.3} %: kernel {:.2} ms, \
         agent {:.2} ms of {:.0} ms; timing {}, watched {:.2} s, not {:.2} s",
        of("/sampling/cost_percent"),
        of("/sampling/kernel_ns") / 1e6,
        of("/sampling/agent_ns") / 1e6,
        of("/sampling/vms_ns") / 1e6,
        report.text("/timing").unwrap(),
        of("/span/seconds"),
        of("/span/unwatched_seconds"),
    );
    assert!(cost < 0.5, "{name}: {cost} % of the guest's time");
    let said = of("/sampling/cost_percent");
    assert!(said < 0.5 && cost < said + 0.1, "{name}: {cost} %, and it says {said} %");
    assert!(rate.contains(&without), "{name}: {without} exits/s");
    assert!(report.count("/accounting/observed").unwrap() > 1_000);
}

#[test]
fn budget_is_kept_at_10k_exits_per_second() {
    // Small rounds: one round more or less in the measurement is a fiftieth of the budget.
    let guest = BareGuest { compute: 230_000, ..BareGuest::pm_timer(10) };
    cost("10 k", 8e3..13e3, &guest);
}

#[test]
fn budget_is_kept_at_100k_exits_per_second() {
    let guest = BareGuest { cpuid: 300, ..BareGuest::pm_timer(100) };
    cost("100 k", 1e5..2e5, &guest);
}
