//! The agent on this machine's KVM. Where KVM does not emit `kvm_exit`, port accesses are still counted exactly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use aya::{maps::loaded_maps, programs::loaded_programs};
use vmexit_tests::{
    agent::{self, JsonReport, RunningCapture},
    guest::{BareGuest, PortDirection, Qemu, address},
    namespaces::{ensure_failed, run_isolated},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Names of an agent's eBPF programs in the kernel's list, which cuts them at 15 bytes. Programs on classic tracepoints
/// have the prefix `tp_`.
const PROGRAMS: [&str; 4] = ["kvm_entry", "kvm_exit", "kvm_pio", "sched_process_e"];
/// Names of an agent's large maps.
const MAPS: [&str; 2] = [".bss.vcpus", "VCPU_STATS"];

/// Lock for one test at a time: the tests check the programs and maps of the whole kernel.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn bounded_guest_port_accesses_are_all_counted() {
    let _alone = alone();
    const ROUNDS: u64 = 50;
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let mut running = Qemu::native("exact").paused().start(&guest).unwrap();
    // QMP answers once the machine is complete.
    drop(running.qmp().unwrap());
    let pid = running.pid().to_string();
    let capture = RunningCapture::start(&["-d", "10m", "--vm", &pid, "-f", "json"]).unwrap();
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    // The dot is the guest's last exit but one; QEMU must finish it.
    sleep(Duration::from_millis(300));
    let report = capture.report().unwrap();
    let expected = guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts());
    report.ensure_ports("exact", &expected).unwrap();
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
}

#[test]
fn running_guest_counts_keep_ratio_of_a_round() {
    let _alone = alone();
    let guest = BareGuest::demo();
    let mut running = Qemu::native("endless").start(&guest).unwrap();
    running.wait_dots(3, PATIENCE).unwrap();
    let output = agent::command(&["capture", "-q", "-d", "1s", "-f", "json"]).unwrap().output();
    let report = JsonReport::of(&output.unwrap()).unwrap();
    let count = |port, direction| {
        report.port("endless", port, direction).unwrap().map_or(0, |row| row.samples().unwrap())
    };
    let per_round = guest.per_round();
    let rtc = (address::RTC_INDEX, PortDirection::Out);
    let rounds = count(rtc.0, rtc.1) / per_round.ports[&rtc].exits;
    assert!(rounds > 3, "{rounds} rounds in a second");
    for (&(port, direction), each) in &per_round.ports {
        let (seen, each) = (count(port, direction), each.exits);
        // The capture begins and ends within a round.
        let range = (rounds - 1) * each..=(rounds + 2) * each + running.missed_hlts();
        assert!(range.contains(&seen), "{port:#x} {direction:?}: {seen} in {rounds} rounds");
    }
}

#[test]
fn silent_host_is_reported_as_silent_not_idle() {
    let _alone = alone();
    let mut running = Qemu::native("speaks").start(&BareGuest::demo()).unwrap();
    running.wait_dots(3, PATIENCE).unwrap();
    let json = agent::command(&["capture", "-q", "-d", "500ms", "-f", "json"]).unwrap().output();
    let report = JsonReport::of(&json.unwrap()).unwrap();
    let text = agent::command(&["capture", "-q", "-d", "500ms"]).unwrap().output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("0x608 IN"), "{text}");
    match report.text("/source").unwrap() {
        "silent" => assert!(text.contains("never emitted kvm_exit"), "{text}"),
        "exits" => assert!(text.contains("VM-EXIT"), "{text}"),
        other => panic!("a busy guest, and the report says '{other}'"),
    }
}

#[test]
fn trace_on_silent_host_warns_early_and_once() {
    const SILENCE: &str = "never emitted kvm_exit";
    let _alone = alone();
    let mut running = Qemu::native("traced").start(&BareGuest::demo()).unwrap();
    running.wait_dots(3, PATIENCE).unwrap();
    let json = agent::command(&["capture", "-q", "-d", "500ms", "-f", "json"]).unwrap().output();
    let is_silent = JsonReport::of(&json.unwrap()).unwrap().text("/source").unwrap() == "silent";

    let directory = tempfile::tempdir().unwrap();
    let said = directory.path().join("said");
    let says = || fs::read_to_string(&said).unwrap();
    let mut trace = agent::command(&["trace", "--slower-than", "1h"]).unwrap();
    trace.stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    let mut trace = trace.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !says().contains(SILENCE) && Instant::now() < deadline {
        assert_eq!(trace.try_wait().unwrap(), None, "{}", says());
        sleep(Duration::from_millis(50));
    }
    let early = says();
    let kill = ["-s", "INT", &trace.id().to_string()];
    assert!(Command::new("kill").args(kill).status().unwrap().success());
    assert!(trace.wait().unwrap().success(), "{}", says());
    assert_eq!(early.contains(SILENCE), is_silent, "{early}");
    assert_eq!(says().matches(SILENCE).count(), usize::from(is_silent), "{}", says());
    assert!(says().contains("0 exits shown, none dropped;"), "{}", says());

    // A short trace warns at its end.
    let mut trace = agent::command(&["trace", "--slower-than", "1h", "-d", "500ms"]).unwrap();
    let said = String::from_utf8(trace.output().unwrap().stderr).unwrap();
    assert_eq!(said.matches(SILENCE).count(), usize::from(is_silent), "{said}");
}

#[test]
fn printing_guest_gets_serial_port_finding() {
    let _alone = alone();
    // The guest only prints dots.
    let mut running = Qemu::native("prints").start(&BareGuest::default()).unwrap();
    running.wait_dots(3, PATIENCE).unwrap();
    let capture = ["capture", "-q", "-d", "1s", "-f", "json", "--vm", "prints"];
    let report = JsonReport::of(&agent::command(&capture).unwrap().output().unwrap()).unwrap();
    let finding = report.finding("prints", "serial-port").unwrap();
    println!("{} dots in a second", finding.field("samples"));
    let silent = report.text("/source").unwrap() == "silent";
    assert_eq!(finding.field("confidence"), if silent { "low" } else { "medium" });
    assert_eq!(finding.field("gain_core_percent").is_null(), silent);
    let remedy = finding.remedy("unknown").unwrap();
    assert!(remedy["libvirt"].as_str().unwrap().contains("<target type='virtio'/>"), "{remedy}");
}

#[test]
fn vm_filter_excludes_other_vms() {
    let _alone = alone();
    let mut wanted = Qemu::native("wanted").start(&BareGuest::demo()).unwrap();
    let mut other = Qemu::native("other").start(&BareGuest::demo()).unwrap();
    wanted.wait_dots(3, PATIENCE).unwrap();
    other.wait_dots(3, PATIENCE).unwrap();
    let capture = ["capture", "-q", "-d", "500ms", "-f", "json", "--vm", "wanted"];
    let report = JsonReport::of(&agent::command(&capture).unwrap().output().unwrap()).unwrap();
    assert!(!report.ports("wanted").unwrap().is_empty());
    assert!(report.ports("other").is_err(), "the neighbour is in the report");
}

#[test]
fn ended_vm_is_still_reported() {
    let _alone = alone();
    let mut running = Qemu::native("short-lived").start(&BareGuest::demo()).unwrap();
    running.wait_dots(3, PATIENCE).unwrap();
    let capture = RunningCapture::start(&["-d", "10m", "-f", "json"]).unwrap();
    sleep(Duration::from_millis(500));
    drop(running);
    let report = capture.report().unwrap();
    assert!(!report.ports("short-lived").unwrap().is_empty());
}

#[test]
fn stats_block_of_ended_vcpu_is_reused() {
    const ROUNDS: u64 = 20;
    let _alone = alone();
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    // A capture needs a VM to start.
    let mut first = Qemu::native("first").paused().start(&guest).unwrap();
    drop(first.qmp().unwrap());
    let capture = RunningCapture::start(&["-d", "10m", "-f", "json", "--max-vcpus", "1"]).unwrap();
    drop(first);
    let mut expected = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let mut running = Qemu::native(name).start(&guest).unwrap();
        running.wait_dots(ROUNDS, PATIENCE).unwrap();
        // The agent looks for new VMs and collects stats blocks twice a second. It must find this VM alive, and free its
        // stats block before the next VM starts.
        sleep(Duration::from_millis(1_500));
        expected.push((name, guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts())));
        drop(running);
        sleep(Duration::from_millis(1_500));
    }
    let report = capture.report().unwrap();
    for (name, expected) in expected {
        report.ensure_ports(name, &expected).unwrap();
    }
    assert_eq!(report.count("/accounting/lost/vcpu_limit").unwrap(), 0);
    assert_eq!(report.count("/accounting/unmatched_lost").unwrap(), 0);
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
}

#[test]
fn vcpus_over_limit_are_counted_as_lost() {
    let _alone = alone();
    let mut guests =
        ["one", "two", "three"].map(|name| Qemu::native(name).start(&BareGuest::demo()).unwrap());
    for guest in &mut guests {
        guest.wait_dots(3, PATIENCE).unwrap();
    }
    let capture = ["capture", "-q", "-d", "500ms", "-f", "json", "--max-vcpus", "1"];
    let output = agent::command(&capture).unwrap().output().unwrap();
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(warned.contains("raise --max-vcpus"), "{warned}");
    let report = JsonReport::of(&output).unwrap();
    let served = ["one", "two", "three"].map(|name| !report.ports(name).unwrap().is_empty());
    assert_eq!(served.iter().filter(|&&served| served).count(), 1, "one stats block, one VM");
    let lost = report.count("/accounting/lost/vcpu_limit").unwrap()
        + report.count("/accounting/unmatched_lost").unwrap();
    assert!(lost > 100, "{lost} lost of two busy guests");
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
}

#[test]
fn killed_agent_leaves_no_programs_and_maps() {
    let _alone = alone();
    let ours = || -> usize {
        let programs = loaded_programs().flatten();
        let programs = programs.filter(|program| {
            let name = program.name_as_str().unwrap_or_default();
            PROGRAMS.contains(&name.strip_prefix("tp_").unwrap_or(name))
        });
        let maps = loaded_maps().flatten();
        let maps = maps.filter(|map| MAPS.contains(&map.name_as_str().unwrap_or("")));
        programs.count() + maps.count()
    };
    // The kernel frees them some time after an agent's end: those of the test before this one, too.
    let wait_for_none = |whose: &str| {
        let deadline = Instant::now() + PATIENCE;
        while ours() > 0 {
            assert!(Instant::now() < deadline, "{} programs and maps of {whose}", ours());
            sleep(Duration::from_millis(50));
        }
    };
    wait_for_none("another agent");
    let mut running = Qemu::native("survivor").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let capture = RunningCapture::start(&["-d", "10m"]).unwrap();
    assert_eq!(ours(), PROGRAMS.len() + MAPS.len());
    capture.signal("KILL").unwrap();
    assert!(!capture.output().unwrap().status.success());
    wait_for_none("the killed agent");
    let dots = running.dots();
    running.wait_dots(dots + 1, PATIENCE).unwrap();
}

#[test]
fn capture_ended_by_sigint_still_reports() {
    let _alone = alone();
    let mut running = Qemu::native("impatient").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let capture = RunningCapture::start(&["-d", "10m"]).unwrap();
    sleep(Duration::from_millis(300));
    capture.signal("INT").unwrap();
    let output = capture.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("(ended early)") && text.contains("impatient"), "{text}");
}

#[test]
fn capture_output_file_is_whole_or_absent() {
    let _alone = alone();
    let mut running = Qemu::native("filed").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let path = file.to_str().unwrap();
    let mut capture = agent::command(&["capture", "-q", "-d", "300ms", "-f", "json", "-o", path]);
    assert!(capture.as_mut().unwrap().output().unwrap().status.success());
    let report = JsonReport::parse(&fs::read(&file).unwrap()).unwrap();
    assert!(!report.ports("filed").unwrap().is_empty());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file is left");

    let nowhere = directory.path().join("no/such/directory/report.json");
    let began = Instant::now();
    let output =
        agent::command(&["capture", "-d", "1m", "-o", nowhere.to_str().unwrap()]).unwrap().output();
    ensure_failed(&output.unwrap(), 7, "can't be written").unwrap();
    assert!(began.elapsed() < PATIENCE, "found out only after the capture");
}

#[test]
fn capture_without_vm_exits_with_5() {
    let _alone = alone();
    ensure_failed(&run_isolated("$VMEXIT capture -d 1s").unwrap(), 5, "no VM is running").unwrap();
}

#[test]
fn capture_of_unknown_vm_lists_running_vms() {
    let _alone = alone();
    let mut running = Qemu::native("present").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let output = agent::command(&["capture", "--vm", "absent\x1b[2J"]).unwrap().output().unwrap();
    ensure_failed(&output, 6, "no VM matches 'absent\\u{1b}[2J'").unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("present ("));
}

#[test]
fn capture_without_capabilities_names_them() {
    let _alone = alone();
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all", "--"])
        .arg(agent::program().unwrap())
        .args(["capture", "-d", "1s"])
        .output()
        .expect("setpriv (util-linux) must run: be root");
    ensure_failed(&output, 3, "CAP_BPF and CAP_PERFMON").unwrap();
}

#[test]
fn capture_in_user_namespace_is_not_permitted() {
    let _alone = alone();
    let mut running = Qemu::native("out-of-reach").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(agent::program().unwrap())
        .args(["capture", "-d", "1s"])
        .output()
        .unwrap();
    ensure_failed(&output, 3, "not permitted").unwrap();
}

#[test]
fn capture_without_kvm_or_tracefs_names_the_cause() {
    let _alone = alone();
    let empty = "mkdir -p /tmp/vmexit-empty && mount --bind /tmp/vmexit-empty";
    let output = run_isolated(&format!("{empty} /sys/module && $VMEXIT capture -d 1s")).unwrap();
    ensure_failed(&output, 4, "no KVM").unwrap();
    let capture = "$VMEXIT capture -d 1s --tracepoints classic";
    let output = run_isolated(&format!("{empty} /sys/kernel/tracing && {capture}")).unwrap();
    ensure_failed(&output, 4, "tracefs is not mounted").unwrap();
}

#[test]
fn capture_without_tracepoint_names_it() {
    let _alone = alone();
    let mut running = Qemu::native("untraceable").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg(
            "mkdir -p /tmp/vmexit-empty && \
             mount --bind /tmp/vmexit-empty /sys/kernel/tracing/events/kvm && \
             $VMEXIT capture -d 1s --tracepoints classic",
        )
        .env("VMEXIT", agent::program().unwrap())
        .output()
        .unwrap();
    ensure_failed(&output, 4, "no tracepoint kvm:kvm_exit").unwrap();
}

#[test]
fn wrong_usage_exits_with_2() {
    let output = agent::command(&["capture", "-d", "never"]).unwrap().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let help = agent::command(&["--help"]).unwrap().output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes:"));
}

#[test]
fn doctor_on_working_host_reports_no_problem() {
    let _alone = alone();
    let mut running = Qemu::native("patient").start(&BareGuest::demo()).unwrap();
    running.wait_dots(1, PATIENCE).unwrap();
    let output = agent::command(&["doctor"]).unwrap().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let socket = running.qmp_socket();
    for line in ["kvm_exit ", "kvm_entry ", "kvm_pio ", "exits ", "memory ", "patient (pid "] {
        assert!(text.contains(line), "no {line}in {text}");
    }
    assert!(text.contains(socket.to_str().unwrap()), "{text}");

    let output = agent::command(&["doctor", "--format", "json"]).unwrap().output().unwrap();
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = checks.as_array().unwrap();
    assert_eq!(checks.len(), text.lines().count());
    assert!(checks.iter().all(|check| check["state"] != "problem"));
}

#[test]
fn doctor_without_kvm_exits_with_4() {
    let _alone = alone();
    let line = "mkdir -p /tmp/vmexit-empty && mount --bind /tmp/vmexit-empty /sys/module && \
                $VMEXIT doctor";
    let output = run_isolated(line).unwrap();
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("PROBLEM  kvm ")), "{text}");
}

#[test]
fn port_table_overflow_leaves_other_vm_exact() {
    let _alone = alone();
    const ROUNDS: u64 = 30;
    const PORTS: u32 = 500;
    let quiet = BareGuest::demo().rounds(ROUNDS as u32);
    let noisy = BareGuest { port_sweep: PORTS, ..BareGuest::default() }.rounds(ROUNDS as u32);
    let mut neighbour = Qemu::native("neighbour").paused().start(&quiet).unwrap();
    let mut sprayer = Qemu::native("sprayer").paused().start(&noisy).unwrap();
    drop((neighbour.qmp().unwrap(), sprayer.qmp().unwrap()));
    let capture = RunningCapture::start(&["-d", "10m", "-f", "json"]).unwrap();
    neighbour.resume().unwrap();
    sprayer.resume().unwrap();
    neighbour.wait_dots(ROUNDS, PATIENCE).unwrap();
    sprayer.wait_dots(ROUNDS, PATIENCE).unwrap();
    sleep(Duration::from_millis(300));
    let report = capture.report().unwrap();

    let expected = quiet.expected(ROUNDS).with_missed_hlts(neighbour.missed_hlts());
    report.ensure_ports("neighbour", &expected).unwrap();

    let rows = report.ports("sprayer").unwrap();
    let samples: u64 = rows.iter().map(|row| row.samples().unwrap()).sum();
    assert_eq!(samples, noisy.expected(ROUNDS).io(), "nothing is lost uncounted");
    let other: Vec<_> = rows.iter().filter(|row| row.is_other()).collect();
    assert_eq!(other.len(), 1);
    // At most 36 rows have a port. Each counts the accesses to the port since it has the row.
    assert!(rows.len() <= 37 && other[0].samples().unwrap() >= u64::from(PORTS - 36) * ROUNDS);
    for row in rows.iter().filter(|row| !row.is_other()) {
        assert!((1..=ROUNDS).contains(&row.samples().unwrap()));
    }
}

#[test]
fn port_rows_filled_by_boot_are_evicted_for_later_ports() {
    let _alone = alone();
    const ROUNDS: u64 = 1_000;
    let guest = BareGuest::boot().rounds(ROUNDS as u32);
    let mut qemu = Qemu::native("boot").paused().start(&guest).unwrap();
    drop(qemu.qmp().unwrap());
    let capture = RunningCapture::start(&["-d", "10m", "-f", "json"]).unwrap();
    qemu.resume().unwrap();
    qemu.wait_dots(ROUNDS, PATIENCE).unwrap();
    sleep(Duration::from_millis(300));
    capture.report().unwrap().ensure_rows_for("boot", &guest, ROUNDS).unwrap();
}

#[test]
fn vm_started_during_capture_is_named() {
    let _alone = alone();
    let mut first = Qemu::native("first").start(&BareGuest::demo()).unwrap();
    first.wait_dots(1, PATIENCE).unwrap();
    let capture = RunningCapture::start(&["-d", "10m", "-f", "json"]).unwrap();
    let mut late = Qemu::native("latecomer").start(&BareGuest::demo()).unwrap();
    late.wait_dots(3, PATIENCE).unwrap();
    // The agent looks up names twice a second.
    sleep(Duration::from_secs(1));
    drop(late);
    let report = capture.report().unwrap();
    assert!(!report.ports("latecomer").unwrap().is_empty());
    assert!(!report.ports("first").unwrap().is_empty());
}
