//! VMs of hostile tenants: none of what their owner chooses holds up or fills the agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use vmexit_tests::{
    agent,
    guest::fake::{FakeQmp, FakeVmm, RunningFake},
    served::Served,
};

/// KiB of a MiB.
const MIB: u64 = 1 << 10;

fn fake() -> FakeVmm {
    FakeVmm::new(Path::new(env!("CARGO_BIN_EXE_vmexit-fake-vmm")))
}

/// The VMs that `vmexit vms` lists, what it said on standard error, and the time that it took.
fn vms() -> (Value, String, Duration) {
    let begun = Instant::now();
    let output = agent::command(&["vms", "--format", "json"]).unwrap().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    (serde_json::from_slice(&output.stdout).unwrap(), said, begun.elapsed())
}

fn name(list: &Value, running: &RunningFake) -> String {
    let vms = list["vms"].as_array().unwrap();
    let vm = vms.iter().find(|vm| vm["pid"] == running.pid()).expect("it is listed");
    vm["name"].as_str().unwrap().to_owned()
}

#[test]
fn command_lines_of_many_words_are_read_up_to_bound() {
    let words = ["-qmp", "chardev:x", "-chardev", "a"].repeat(28_000);
    let all: Vec<_> =
        (0..20).map(|_| fake().args(["-name", "many"]).args(&words).start().unwrap()).collect();
    let (list, said, took) = vms();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(all.iter().all(|running| name(&list, running) == "many"), "{list:.1000}");
    let warned: Vec<&str> = said.lines().filter(|line| line.contains("longer than")).collect();
    assert_eq!(warned.len(), 1, "{said}");
    let served = Served::start(&["-i", "100ms"]).unwrap();
    served.wait_intervals(5).unwrap();
    let most = served.most_resident_kib().unwrap();
    assert!(most < 200 * MIB, "{most}");
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn long_names_alike_in_beginning_stay_different() {
    let names = ["a", "b"].map(|end| "x".repeat(100_000) + end);
    let running =
        names.each_ref().map(|name| fake().args(["-name", name.as_str()]).start().unwrap());
    let (list, ..) = vms();
    let listed = running.each_ref().map(|running| name(&list, running));
    assert_ne!(listed[0], listed[1]);
    assert!(listed.iter().all(|name| name.len() <= 256 && name.starts_with("xxx")), "{listed:?}");
    // The full name selects only its VM.
    let arguments = ["capture", "-d", "1s", "-f", "json", "--vm", names[0].as_str()];
    let output = agent::command(&arguments).unwrap().output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let vms = report["vms"].as_array().unwrap();
    assert_eq!(vms.len(), 1);
    assert_eq!(vms[0]["pid"], running[0].pid());
}

#[test]
fn large_memory_trees_leave_memory_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let start = |number: usize, bytes| {
        let socket = directory.path().join(number.to_string());
        let qmp = format!("unix:{},server=on,wait=off", socket.display());
        fake().args(["-qmp", &qmp]).qmp(&socket, FakeQmp::Tree(bytes)).start().unwrap()
    };
    let mut all: Vec<_> = (0..20).map(|number| start(number, 8 << 20)).collect();
    all.extend((20..40).map(|number| start(number, 1 << 20)));
    let served = Served::start(&["-i", "100ms"]).unwrap();
    served.wait_intervals(30).unwrap();
    let used = served.resident_kib().unwrap();
    assert!(used < 200 * MIB, "{used}");
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn hanging_and_lying_qmp_sockets_delay_no_interval() {
    let directory = tempfile::tempdir().unwrap();
    let start = |number: usize| {
        let socket = directory.path().join(number.to_string());
        let qmp = format!("unix:{},server=on,wait=off", socket.display());
        let how = if number.is_multiple_of(2) { FakeQmp::Hangs } else { FakeQmp::Lies };
        fake().args(["-qmp", &qmp]).qmp(&socket, how).start().unwrap()
    };
    let _all: Vec<_> = (0..20).map(start).collect();
    let served = Served::start(&["-i", "100ms"]).unwrap();
    let begun = Instant::now();
    served.wait_intervals(20).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(served.end().unwrap(), Some(0));
}

/// CPU time of a process so far, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // utime and stime, proc_pid_stat(5).
    after_name[11].parse::<u64>().unwrap() + after_name[12].parse::<u64>().unwrap()
}

#[test]
fn vmm_without_vm_descriptor_is_not_searched_each_interval() {
    let start = || fake().descriptors(900).vcpus(1).closes_vm().start().unwrap();
    let _all: Vec<_> = (0..20).map(|_| start()).collect();
    let served = Served::start(&["-i", "100ms"]).unwrap();
    served.wait_intervals(20).unwrap();
    let before = ticks(served.pid());
    sleep(Duration::from_secs(5));
    // 18,000 links ten times a second take several times as long.
    let used = ticks(served.pid()) - before;
    assert!(used < 150, "{used} ticks of 500");
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn process_id_wins_over_vm_of_that_name() {
    let wanted = fake().args(["-name", "web"]).start().unwrap();
    let pid = wanted.pid().to_string();
    let _namesake = fake().args(["-name", &pid]).start().unwrap();
    let arguments = ["capture", "-d", "1s", "-f", "json", "--vm", &pid];
    let output = agent::command(&arguments).unwrap().output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pids: Vec<&Value> = report["vms"].as_array().unwrap().iter().map(|vm| &vm["pid"]).collect();
    assert_eq!(pids, [wanted.pid()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has that number as its name"), "{said}");
}
