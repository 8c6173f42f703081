//! `vmexit record` on this machine: recordings are exact, whatever happens to the recorder, its disk and its files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

use tempfile::TempDir;
use vmexit_tests::{
    agent::{self, JsonReport},
    guest::{BareGuest, PortDirection, Qemu, RunningGuest},
    namespaces::ensure_failed,
    tmux::Tmux,
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 40;
/// Longer than an interval and the time to write it.
const A_WHILE: Duration = Duration::from_millis(900);

/// A running `vmexit record`.
struct RunningRecorder {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl RunningRecorder {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let directory = directory.to_str().unwrap();
        let mut command =
            agent::command(&["record", directory, "--interval", "300ms", "--devices", "guess"])
                .unwrap();
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("recording into") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        sleep(Duration::from_millis(200));
        Self { child, stderr }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Ends the recorder by this signal. Returns its exit status and its standard error.
    fn end(mut self, name: &str) -> (ExitStatus, String) {
        self.signal(name);
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (status, said)
    }
}

fn guest() -> BareGuest {
    BareGuest::sampler().rounds(ROUNDS as u32)
}

/// Runs a guest from its beginning to its end.
fn run(name: &str) -> RunningGuest {
    let mut running = Qemu::native(name).paused().start(&guest()).unwrap();
    drop(running.qmp().unwrap());
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    running
}

fn report(directory: &Path, arguments: &[&str]) -> JsonReport {
    let directory = directory.to_str().unwrap();
    let arguments = [&["report", directory, "--format", "json"], arguments].concat();
    let output = agent::command(&arguments).unwrap().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    JsonReport::of(&output).unwrap()
}

/// Demands exact counts of a guest's accesses.
fn assert_exact(report: &JsonReport, running: &RunningGuest, name: &str) {
    let expected = guest().expected(ROUNDS).with_missed_hlts(running.missed_hlts());
    report.ensure_ports(name, &expected).unwrap();
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|end| end == "vmexit")).collect()
}

#[test]
fn recording_across_restart_and_kill_stays_exact() {
    let directory = TempDir::new().unwrap();
    let recorder = RunningRecorder::start(directory.path(), &[]);
    let first = run("first");
    sleep(A_WHILE);
    // A second recorder is refused.
    let path = directory.path().to_str().unwrap();
    let other = agent::command(&["record", path]).unwrap().output().unwrap();
    ensure_failed(&other, 7, "can't be written: another vmexit is recording to this directory")
        .unwrap();
    recorder.signal("HUP");
    let second = run("second");
    let (status, said) = recorder.end("TERM");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    assert_eq!(files(directory.path()).len(), 2);
    let both = report(directory.path(), &[]);
    assert_exact(&both, &first, "first");
    assert_exact(&both, &second, "second");

    // The recorder is killed some time after the end of the guest.
    let recorder = RunningRecorder::start(directory.path(), &[]);
    let third = run("third");
    sleep(A_WHILE);
    let (status, _) = recorder.end("KILL");
    assert_eq!(status.code(), None);
    let all = report(directory.path(), &[]);
    for (running, name) in [(&first, "first"), (&second, "second"), (&third, "third")] {
        assert_exact(&all, running, name);
    }
    let span = |name: &str| all.number(&format!("/span/{name}")).unwrap();
    assert!(span("unwatched_seconds") > 0.0 && span("seconds") > 1.0);
    let recent = report(directory.path(), &["--since", "10m", "--vm", "third"]);
    assert_exact(&recent, &third, "third");

    // An excerpt is a complete recording.
    let excerpt = directory.path().join("excerpt");
    let excerpt = excerpt.to_str().unwrap();
    let arguments =
        ["report", path, "--since", "10m", "--format", "recording", "--output", excerpt];
    assert!(agent::command(&arguments).unwrap().status().unwrap().success());
    assert_exact(&report(Path::new(excerpt), &[]), &second, "second");
    for command in [
        vec!["explain", path],
        vec!["diff", path, "--before-period", "10m..", "--after-period", ".."],
    ] {
        let output = agent::command(&command).unwrap().output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_replayed(path, &first);
    let nothing =
        agent::command(&["report", path, "--until", "2020-01-01"]).unwrap().output().unwrap();
    ensure_failed(&nothing, 8, "has no recording of that period").unwrap();
    let wrong = ["report", path, "--since", "1h", "--until", "2h"];
    let wrong = agent::command(&wrong).unwrap().output().unwrap();
    ensure_failed(&wrong, 2, "the period ends before it begins").unwrap();
}

/// Demands that the intervals of a replay add up to the exact count of the first guest, and that a replay can be
/// stepped through.
fn assert_replayed(path: &str, first: &RunningGuest) {
    let arguments = ["top", "--batch", "--replay", path, "--vm", "first", "--event", "ioport"];
    let output = agent::command(&arguments).unwrap().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.matches(", none lost").count() > 5, "{text}");
    let samples = text.lines().filter_map(|line| line.trim().strip_prefix("0x608 IN"));
    let sum: u64 = samples
        .map(|line| {
            line.split_whitespace().nth(1).unwrap().replace(',', "").parse::<u64>().unwrap()
        })
        .sum();
    let expected = guest().expected(ROUNDS).ports[&(0x608, PortDirection::In)];
    assert!([expected.exits, expected.events].contains(&sum), "{sum} of {expected:?}: {text}");

    let tmux = Tmux::start(100, 24).unwrap();
    let program = agent::program().unwrap();
    let of = format!("first (pid {}", first.pid());
    tmux.line(&format!("{} top --replay {path} --interval 1m --vm first", program.display()))
        .unwrap();
    // Steps to an interval with the guest, and opens the guest with all intervals until then.
    tmux.wait("first interval", |screen| screen.contains("UTC")).unwrap();
    for _ in 0..20 {
        tmux.press(&["."]).unwrap();
    }
    tmux.press(&["c", "Enter"]).unwrap();
    let screen = tmux.wait("all so far", |screen| {
        ["REPLAY", "PAUSED", "all of", &of].iter().all(|part| screen.contains(part))
    });
    screen.unwrap();
    tmux.press(&[",", "q"]).unwrap();
}

/// A file system of one megabyte.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "vmexit-test"]).arg(directory.path());
        assert!(mount.status().unwrap().success());
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn recording_on_full_disk_loses_no_exit() {
    let disk = SmallDisk::new();
    let directory = disk.0.path();
    let recorder = RunningRecorder::start(directory, &[]);
    sleep(A_WHILE);
    // A file of another program fills the disk.
    let hog = directory.join("hog");
    let _ = fs::write(&hog, vec![1; 2 << 20]);
    let running = run("unwritten");
    sleep(A_WHILE);
    fs::remove_file(hog).unwrap();
    sleep(A_WHILE);
    let (status, said) = recorder.end("TERM");
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches("can't be written").count(), 1, "{said}");
    assert!(said.contains("recording again; no count is missing"), "{said}");
    let report = report(directory, &[]);
    assert_exact(&report, &running, "unwritten");
    assert_eq!(report.number("/span/unwatched_seconds").unwrap(), 0.0);

    // A disk that stays full is an error at the end.
    let recorder = RunningRecorder::start(directory, &[]);
    let _ = fs::write(directory.join("hog"), vec![1; 2 << 20]);
    sleep(A_WHILE);
    let (status, said) = recorder.end("TERM");
    assert_eq!(status.code(), Some(7), "{said}");
    assert!(said.contains("can't be written: No space left on device"), "{said}");
}
