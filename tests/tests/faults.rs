//! Faults around the agent and its reactions. docs/faults.md has a row for each test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use serde_json::json;
use vmexit_tests::{
    agent::{self, JsonReport, RunningCapture},
    guest::{BareGuest, Expected, PortDirection, Qemu, RunningGuest, address},
    namespaces::ensure_failed,
    served::{Served, ports},
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 40;
/// Time for the guest's last exits: the last dot is not the last exit.
const A_MOMENT: Duration = Duration::from_millis(300);
/// Arguments of a capture that its test ends.
const CAPTURE: [&str; 4] = ["-d", "10m", "-f", "json"];

/// Lock for one test at a time: agents see the VMs of all tests, and tests check all messages of an agent.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn guest() -> BareGuest {
    BareGuest::sampler().rounds(ROUNDS as u32)
}

/// Starts the guest, paused.
fn paused(name: &str) -> RunningGuest {
    let mut running = Qemu::native(name).paused().start(&guest()).unwrap();
    drop(running.qmp().unwrap());
    running
}

/// Lets the guest run to its end.
fn finish(running: &mut RunningGuest) {
    running.resume().unwrap();
    wait(running);
}

fn wait(running: &mut RunningGuest) {
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    sleep(A_MOMENT);
}

fn expected(running: &RunningGuest) -> Expected {
    guest().expected(ROUNDS).with_missed_hlts(running.missed_hlts())
}

/// Ends a capture that must succeed. Returns its report and its standard error.
fn end(capture: RunningCapture) -> (JsonReport, String) {
    capture.signal("INT").unwrap();
    let output = capture.output().unwrap();
    (JsonReport::of(&output).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Demands exact counts of a guest's accesses.
fn assert_served(served: &Served, running: &RunningGuest, vm: &str) {
    served.wait_intervals(2).unwrap();
    let accesses = served.samples("vmexit_accesses_total").unwrap();
    assert_eq!(ports(&accesses, vm), served.expected_ports(&expected(running)).unwrap());
}

/// Demands exactly one warning that a VM can't be asked.
fn assert_warned_once(said: &str) {
    assert_eq!(said.matches("can't be asked for").count(), 1, "{said}");
}

/// Whether the device of the guest's RTC is a guess.
fn is_guessed(report: &JsonReport, vm: &str) -> bool {
    let clock = report.port(vm, address::RTC_INDEX, PortDirection::Out).unwrap().unwrap();
    clock.device()["guess"].as_bool().unwrap()
}

#[test]
fn killed_vm_is_reported_up_to_its_end() {
    let _alone = alone();
    let mut running = paused("killed");
    let capture = RunningCapture::start(&CAPTURE).unwrap();
    finish(&mut running);
    let expected = expected(&running);
    running.signal("KILL").unwrap();
    running.wait_exit(PATIENCE).unwrap();
    let (report, said) = end(capture);
    report.ensure_ports("killed", &expected).unwrap();
    // QEMU answered while it ran.
    assert!(!is_guessed(&report, "killed"));
    assert_eq!(said, "");
}

#[test]
fn missing_qmp_socket_costs_names_and_one_warning() {
    let _alone = alone();
    let mut running = paused("mute");
    let mut qmp = running.qmp().unwrap();
    fs::remove_file(running.qmp_socket()).unwrap();
    let capture = RunningCapture::start(&CAPTURE).unwrap();
    let served = Served::start(&["-i", "100ms"]).unwrap();
    qmp.execute("cont", json!({})).unwrap();
    wait(&mut running);
    let (report, said) = end(capture);
    report.ensure_ports("mute", &expected(&running)).unwrap();
    assert!(is_guessed(&report, "mute"));
    assert_warned_once(&said);
    // Further attempts add no warning.
    for _ in 0..4 {
        served.signal("HUP").unwrap();
        served.wait_intervals(8).unwrap();
    }
    assert_served(&served, &running, "mute");
    assert_warned_once(&served.said());
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn qmp_socket_removed_later_keeps_known_names() {
    let _alone = alone();
    let mut running = paused("once-asked");
    let capture = RunningCapture::start(&CAPTURE).unwrap();
    finish(&mut running);
    fs::remove_file(running.qmp_socket()).unwrap();
    let (report, said) = end(capture);
    report.ensure_ports("once-asked", &expected(&running)).unwrap();
    assert!(!is_guessed(&report, "once-asked"));
    // Accesses to ports without a device make the agent ask again.
    assert_warned_once(&said);
}

#[test]
fn stopped_qemu_does_not_block_agent() {
    let _alone = alone();
    let mut running = paused("stopped");
    running.signal("STOP").unwrap();
    let begun = Instant::now();
    let served = Served::start(&["-i", "100ms"]).unwrap();
    served.wait_intervals(30).unwrap();
    assert_warned_once(&served.said());
    running.signal("CONT").unwrap();
    let capture = RunningCapture::start(&CAPTURE).unwrap();
    finish(&mut running);
    assert_served(&served, &running, "stopped");
    assert_warned_once(&served.said());
    running.signal("STOP").unwrap();
    let (report, _) = end(capture);
    report.ensure_ports("stopped", &expected(&running)).unwrap();
    println!("{:?}", begun.elapsed());
    assert_eq!(served.end().unwrap(), Some(0));
}

/// Command that runs the agent in a new mount namespace.
fn in_mount_namespace(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(agent::program().unwrap()).args(arguments);
    command
}

/// Runs a command in the mount namespace of a process.
fn beside(pid: u32, command: &[&str]) -> Output {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--mount", "--target", &pid.to_string()]).args(command).output().unwrap()
}

#[test]
fn tracefs_unmounted_after_attach_keeps_counting() {
    let _alone = alone();
    const TRACEFS: &str = "/sys/kernel/tracing";
    let classic = ["--tracepoints", "classic"];
    let mut running = paused("untraced");
    let served =
        Served::start_by(in_mount_namespace(&[]), &[&["-i", "100ms"], &classic[..]].concat())
            .unwrap();
    let unmounted = beside(served.pid(), &["umount", "--lazy", TRACEFS]);
    assert!(unmounted.status.success(), "{unmounted:?}");
    let program = agent::program().unwrap();
    let program = program.to_str().unwrap();
    let anew = beside(served.pid(), &[&[program, "capture", "-d", "1s"], &classic[..]].concat());
    ensure_failed(&anew, 4, "tracefs is not mounted").unwrap();
    finish(&mut running);
    assert_served(&served, &running, "untraced");
    assert_eq!(served.end().unwrap(), Some(0));

    // A capture that attaches for each window fails at the next one.
    let windows = [&["capture", "-d", "1m", "--duty", "50ms/100ms"], &classic[..]].concat();
    let windows = in_mount_namespace(&windows).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(1));
    let unmounted = beside(windows.id(), &["umount", "--lazy", TRACEFS]);
    assert!(unmounted.status.success(), "{unmounted:?}");
    ensure_failed(&windows.wait_with_output().unwrap(), 4, "tracefs is not mounted").unwrap();
}

#[test]
fn concurrent_agents_count_the_same() {
    let _alone = alone();
    let mut running = paused("shared");
    let served = [["-i", "100ms"], ["-i", "300ms"]].map(|every| Served::start(&every).unwrap());
    let capture = RunningCapture::start(&CAPTURE).unwrap();
    finish(&mut running);
    let (report, said) = end(capture);
    report.ensure_ports("shared", &expected(&running)).unwrap();
    assert_eq!(said, "");
    for served in &served {
        assert_served(served, &running, "shared");
    }
}

/// A thread that switches `kernel.bpf_stats_enabled` on and off until the value is dropped, which restores the setting.
struct StatsToggler {
    found: String,
    ends: Arc<AtomicBool>,
    toggler: Option<JoinHandle<()>>,
}

impl StatsToggler {
    const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn start() -> Self {
        let found = Self::get();
        let ends = Arc::<AtomicBool>::default();
        let toggler = thread::spawn({
            let ends = ends.clone();
            move || {
                while !ends.load(Ordering::Relaxed) {
                    for value in ["1", "0"] {
                        Self::set(value);
                        sleep(Duration::from_millis(15));
                    }
                }
            }
        });
        Self { found, ends, toggler: Some(toggler) }
    }

    fn get() -> String {
        fs::read_to_string(Self::SETTING).unwrap().trim().to_owned()
    }

    fn set(value: &str) {
        fs::write(Self::SETTING, value).unwrap();
    }

    fn stop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(toggler) = self.toggler.take() {
            toggler.join().unwrap();
        }
    }
}

impl Drop for StatsToggler {
    fn drop(&mut self) {
        self.stop();
        Self::set(&self.found);
    }
}

/// Whether the agent keeps the kernel's statistics enabled.
fn holds_statistics(served: &Served) -> bool {
    let files = fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| link.to_string_lossy().contains("bpf-stats"))
}

#[test]
fn bpf_stats_toggled_by_others_changes_no_count() {
    let _alone = alone();
    let mut toggler = StatsToggler::start();
    let mut running = paused("budgeted");
    let served = Served::start(&["-i", "200ms", "--budget", "50%"]).unwrap();
    let capture = RunningCapture::start(&[&CAPTURE[..], &["--budget", "50%"]].concat()).unwrap();
    finish(&mut running);
    assert_served(&served, &running, "budgeted");
    assert_eq!(served.sum("vmexit_unwatched_seconds_total").unwrap(), 0.0);
    assert!(!holds_statistics(&served));
    let (report, _) = end(capture);
    report.ensure_ports("budgeted", &expected(&running)).unwrap();
    let cost = report.number("/sampling/cost_percent").unwrap();
    println!("{cost} %");
    assert!(cost > 0.0 && cost < 50.0, "{cost}");

    toggler.stop();
    for setting in ["1", "0"] {
        StatsToggler::set(setting);
        let budget = ["capture", "-q", "-d", "300ms", "--budget", "50%"];
        assert!(agent::command(&budget).unwrap().output().unwrap().status.success());
        assert_eq!(StatsToggler::get(), setting);
    }
}
