//! The Intel lab, and the agent in it, compared with the known exits of bare guests and KVM's own counter.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use vmexit_tests::{
    agent::JsonFinding,
    guest::BareGuest,
    lab::{Lab, LabError, LabKernel, LabVendor, default_cache},
    scenario::{self, Printed, capture_all, start, watch},
};

/// Rounds of a guest; few, because this lab is slow.
const ROUNDS: u64 = 20;

#[test]
fn exit_counts_on_raw_tracepoints_match_guest_and_kvm() {
    assert_exit_counts_match_guest_and_kvm("raw");
}

#[test]
fn exit_counts_on_classic_tracepoints_match_guest_and_kvm() {
    assert_exit_counts_match_guest_and_kvm("classic");
}

fn assert_exit_counts_match_guest_and_kvm(tracepoints: &str) {
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let lab = scenario::lab(LabVendor::Intel, &guest).unwrap();
    let script = capture_all("exact", ROUNDS, &format!("--tracepoints {tracepoints}"));
    let printed = Printed::by(&lab, &script).unwrap_or_else(|error| panic!("{error:#}"));
    let report = printed.report().unwrap();
    let exits = printed.number("exits").unwrap();

    println!("{}, KVM's own counter: {exits}", report.accounting());
    assert_eq!(report.text("/host/vendor").unwrap(), "vmx");
    assert_eq!(report.text("/source").unwrap(), "exits");
    report.ensure_series("exact").unwrap();
    let rounds = printed.number("dots").unwrap();
    assert_eq!(rounds, ROUNDS);
    let expected = guest.expected(rounds).with_missed_hlts(printed.number("missed").unwrap());
    report.ensure_ports("exact", &expected).unwrap();
    report.ensure_registers("exact", &expected).unwrap();
    for (reason, count) in [
        ("IO_INSTRUCTION", expected.io()),
        ("CPUID", expected.cpuid),
        ("MSR_READ", expected.msr_reads.values().sum()),
        ("MSR_WRITE", expected.msr_writes.values().sum()),
        // The last HLT never ends.
        ("HLT", expected.hlt - 1),
    ] {
        assert_eq!(report.exits_for("exact", reason).unwrap(), count, "{reason}");
    }

    let observed = report.count("/accounting/observed").unwrap();
    assert_eq!(report.count("/accounting/in_flight").unwrap(), 1);
    assert_eq!(report.count("/accounting/recorded").unwrap(), observed - 1, "nothing is lost");
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
    assert_eq!(observed, exits, "KVM's own counter");
}

/// The proportions of a Windows guest without Hyper-V's timers. In 10 s it made 158,788 reads of the PM timer, 48,975
/// writes of the RTC's index, 47,791 reads and 1,184 writes of its data.
const WINDOWS: BareGuest = BareGuest {
    pm_timer_in: 134,
    rtc_out: 41,
    rtc_in: 40,
    rtc_data_out: 1,
    ..BareGuest::pm_timer(0)
};

#[test]
fn windows_guest_gets_pm_timer_and_rtc_findings() {
    let lab = scenario::lab(LabVendor::Intel, &WINDOWS).unwrap();
    let script = start("win10")
        + r#"
echo cont >&3
wait_dots 2
vmexit capture -q -d 2s -o /tmp/win10.vmexit
echo "== report"; vmexit report -f json /tmp/win10.vmexit
echo "== text"; vmexit report /tmp/win10.vmexit
echo "== explained"; vmexit explain /tmp/win10.vmexit
"#;
    let printed = Printed::by(&lab, &script).unwrap_or_else(|error| panic!("{error:#}"));
    let report = printed.report().unwrap();
    let explained = printed.section("explained").unwrap();
    println!("# win10\n{}\n# explained\n{explained}", printed.section("text").unwrap());
    for words in ["[acpi-pm-timer]", "[rtc]", "hv-time=on,hv-vpindex=on,hv-synic=on,hv-stimer=on"] {
        assert!(explained.contains(words), "{words}");
    }
    let findings = report.findings("win10").unwrap();
    let rules: Vec<&str> = findings.iter().map(JsonFinding::rule).collect();
    assert_eq!(rules[..2], ["acpi-pm-timer", "rtc"], "{findings:?}");
    for finding in &findings[..2] {
        let (share, gain) = (finding.field("exits_percent"), finding.field("gain_core_percent"));
        println!("{}: {share}% of exits, up to {gain}% of a core", finding.rule());
        let remedy = finding.remedy("windows").unwrap();
        let flags = "-cpu …,hv-time=on,hv-vpindex=on,hv-synic=on,hv-stimer=on";
        assert_eq!(remedy["qemu"], flags);
        let xml = remedy["libvirt"].as_str().unwrap();
        for element in ["timer name='hypervclock' present='yes'", "vpindex", "synic", "stimer"] {
            assert!(xml.contains(&format!("<{element}")), "{element}: {xml}");
        }
    }
}

#[test]
fn trace_on_raw_tracepoints_prints_every_exit() {
    assert_trace_prints_every_exit("raw");
}

#[test]
fn trace_on_classic_tracepoints_prints_every_exit() {
    assert_trace_prints_every_exit("classic");
}

/// Runs with one kind of tracepoint at a time: a classic tracepoint makes KVM read RIP for all observers.
fn assert_trace_prints_every_exit(tracepoints: &str) {
    let rounds = 3;
    let guest = BareGuest::sampler().rounds(rounds);
    let lab = scenario::lab(LabVendor::Intel, &guest).unwrap();
    let trace = format!("trace -f json --slower-than 1ns --waiting --tracepoints {tracepoints}");
    let script = watch("slow", rounds.into(), &[("lines", trace)]);
    let printed = Printed::by(&lab, &script).unwrap_or_else(|error| panic!("{error:#}"));
    let lines = printed.section("lines").unwrap();
    let exits: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known = exits.iter().filter(|exit| !exit["rip"].is_null()).count();
    println!("{tracepoints}: {}", printed.section("lines said").unwrap());
    println!("{tracepoints}: RIP known of {known} of {}", exits.len());
    // The last HLT never ends.
    assert_eq!(exits.len() as u64, printed.number("exits").unwrap() - 1, "KVM's own counter");
    // KVM reads RIP to skip an instruction that it has emulated.
    let instructions = ["IO_INSTRUCTION", "CPUID", "MSR_READ", "MSR_WRITE", "HLT"];
    for exit in exits.iter().filter(|exit| exit["rip"].is_null()) {
        assert_eq!(tracepoints, "raw", "the record always has it: {exit}");
        assert!(!instructions.contains(&exit["reason"].as_str().unwrap()), "{exit}");
    }
}

fn bare_lab() -> Lab {
    Lab::new(LabKernel::find(&default_cache(), None).unwrap()).vendor(LabVendor::Intel)
}

#[test]
fn lab_script_returns_streams_and_exit_code() {
    let script = "cat /root/bytes; cat /root/bytes >&2; test -c /dev/kvm || exit 1; \
                  test -r /sys/kernel/btf/kvm_intel || exit 2; sleep 1000 & exit 7";
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let run = bare_lab().file("/root/bytes", bytes.clone(), 0o644).run(script).unwrap();
    assert_eq!(run.code, 7, "{run:?}");
    // All bytes arrive, although the machine powers off right after the last one.
    assert_eq!(run.stdout, bytes);
    assert_eq!(run.stderr, bytes);
}

#[test]
fn lab_crash_is_an_error() {
    let error = bare_lab().run("echo c > /proc/sysrq-trigger; exit 0").unwrap_err();
    assert!(matches!(error, LabError::Crashed { .. }), "{error}");
}

#[test]
fn lab_reboot_has_no_verdict() {
    let error = bare_lab().run("echo last words; reboot -f").unwrap_err();
    assert!(matches!(error, LabError::NoVerdict { .. }), "{error}");
    assert!(error.to_string().contains("last words"), "{error}");
}
