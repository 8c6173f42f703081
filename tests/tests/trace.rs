//! `vmexit trace` in the AMD lab, compared with the known exits of bare guests.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use vmexit_tests::{
    guest::{BareGuest, PortDirection, ROM_SIZE, address},
    lab::{Lab, LabVendor},
    scenario::{self, Printed, start, watch},
};

const ROUNDS: u64 = 20;

fn lab(guest: &BareGuest) -> Lab {
    scenario::lab(LabVendor::Amd, guest).unwrap().timeout(Duration::from_secs(240))
}

fn run(guest: &BareGuest, script: &str) -> Printed {
    Printed::by(&lab(guest), script).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn trace_on_raw_tracepoints_prints_every_exit() {
    assert_trace_prints_every_exit("raw");
}

#[test]
fn trace_on_classic_tracepoints_prints_every_exit() {
    assert_trace_prints_every_exit("classic");
}

/// Runs two more agents beside: one for exits that take hours, and one without exits that only wait. All run until
/// after the end of the guest. At its end an agent has the kernel copy a map; until that is done, even while the
/// thread is preempted, the CPU runs no program on a classic tracepoint (`bpf_disable_instrumentation`,
/// include/linux/bpf.h).
fn assert_trace_prints_every_exit(tracepoints: &str) {
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let agents = [
        ("all", "--slower-than 1ns --waiting"),
        ("hours", "--slower-than 1h --waiting"),
        ("busy", "--slower-than 1ns"),
    ];
    let trace = |options| format!("trace --tracepoints {tracepoints} -f json {options}");
    let script = watch("slow", ROUNDS, &agents.map(|(name, options)| (name, trace(options))));
    let printed = run(&guest, &script);
    let lines = |section: &str| -> Vec<Value> {
        let text = printed.section(section).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines("all");
    println!("{}\n{}", printed.section("all said").unwrap(), all[all.len() / 2]);
    assert!(printed.section("all said").unwrap().contains(" none dropped; "));
    // The last HLT never ends.
    assert_eq!(all.len() as u64, printed.number("exits").unwrap() - 1, "KVM's own counter");

    let missed = printed.number("missed").unwrap();
    let expected = guest.expected(ROUNDS).with_missed_hlts(missed);
    let ports = by_port(&all);
    let accesses = expected.ports.iter().map(|(&port, accesses)| (port, accesses.exits));
    assert_eq!(ports, accesses.collect::<BTreeMap<_, _>>());
    let of = |reason: &str| all.iter().filter(|exit| exit["reason"] == reason).count() as u64;
    assert_eq!((of("io"), of("cpuid"), of("msr")), (expected.io(), expected.cpuid, expected.msr()));
    assert_eq!(of("hlt"), expected.hlt - 1);

    let mut last = "";
    for exit in &all {
        assert_eq!((&exit["vm"], &exit["vcpu"]), (&"slow".into(), &0.into()));
        let (took, user) = (number(&exit["duration_ns"]), number(&exit["userspace_ns"]));
        assert!(took > user, "{exit}");
        assert_eq!(user > 0, !exit["userspace"].is_null(), "{exit}");
        assert_eq!(exit["waits"] == true, exit["reason"] == "hlt", "{exit}");
        let time = exit["time"].as_str().unwrap();
        assert!(time >= last, "{exit}");
        last = time;
        // In real mode RIP is an offset in the segment of the ROM; in long mode it is an address below 1 MiB.
        let rip = exit["rip"].as_str().unwrap().trim_start_matches("0x");
        let rip = usize::from_str_radix(rip, 16).unwrap();
        assert!(
            (1..ROM_SIZE).contains(&rip) || (1..ROM_SIZE).contains(&(rip ^ 0xf_0000)),
            "{exit}"
        );
    }
    let reads = all.iter().filter(|exit| exit["detail"]["number"] == address::PM_TIMER);
    // The device is QEMU's.
    assert!(
        reads.clone().all(|exit| exit["userspace"] == "KVM_EXIT_IO" && exit["detail"]["size"] == 4)
    );
    let places: BTreeSet<_> = reads.map(|exit| exit["rip"].as_str()).collect();
    assert_eq!(places.len(), 1, "one instruction reads the PM timer: {places:?}");

    assert!(lines("hours").is_empty());
    let summary = printed.section("hours said").unwrap();
    assert!(summary.contains("0 exits shown, none dropped;"), "{summary}");
    assert_eq!(summary.lines().count(), 1, "exits do come: {summary}");
    let busy = all.iter().filter(|exit| exit["waits"] == false).count();
    assert_eq!(lines("busy").len(), busy);
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn by_port(exits: &[Value]) -> BTreeMap<(u16, PortDirection), u64> {
    let mut ports = BTreeMap::new();
    for detail in exits.iter().map(|exit| &exit["detail"]).filter(|what| what["kind"] == "port") {
        let direction =
            if detail["direction"] == "in" { PortDirection::In } else { PortDirection::Out };
        let port = u16::try_from(number(&detail["number"])).unwrap();
        *ports.entry((port, direction)).or_default() += 1;
    }
    ports
}

#[test]
fn trace_with_slow_or_closed_reader_ends_cleanly() {
    let script = start("pipes")
        + r#"
echo cont >&3
wait_dots 1
echo "== head"; vmexit trace --slower-than 1ns --waiting -f json 2> /tmp/said | head -n 3
echo "== said"; cat /tmp/said
echo "== text"; vmexit trace --slower-than 200us -n 6
# Nothing reads the pipe, so exits are dropped. SIGTERM must end the agent nevertheless.
mkfifo /tmp/pipe
sleep 1000 < /tmp/pipe &
vmexit trace --slower-than 1ns --waiting > /tmp/pipe 2> /tmp/summary &
agent=$!
until grep -q dropped: /tmp/summary; do kill -0 $agent; sleep 1; done
kill -TERM $agent
wait $agent
echo "== summary"; cat /tmp/summary
"#;
    let printed = run(&BareGuest::demo(), &script);
    assert_eq!(printed.section("head").unwrap().lines().count(), 3);
    assert_eq!(printed.section("said").unwrap(), "");
    let text = printed.section("text").unwrap();
    println!("{text}");
    assert!(text.starts_with("TIME ") && text.lines().count() == 7, "{text}");
    let summary = printed.section("summary").unwrap();
    println!("{summary}");
    let last = summary.lines().last().unwrap();
    assert!(last.contains(" shown, ") && last.contains(" dropped; of "), "{summary}");
    assert!(!last.contains("none dropped"), "{summary}");
}
