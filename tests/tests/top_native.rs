//! `vmexit top` in a terminal on this machine: keys, screens, and the state of the terminal afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use vmexit_tests::{
    agent::{self, JsonReport},
    guest::{BareGuest, PortDirection, Qemu, RunningGuest, address},
    namespaces::{ensure_failed, run_isolated},
    tmux::{Tmux, figure},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts an endless guest, and a terminal in which `vmexit top` shows it.
fn top(name: &str, arguments: &str) -> (RunningGuest, Tmux) {
    let mut guest = Qemu::native(name).start(&BareGuest::demo()).unwrap();
    guest.wait_dots(3, PATIENCE).unwrap();
    let tmux = terminal();
    start(&tmux, &guest, arguments);
    (guest, tmux)
}

/// Starts a terminal with a shell function `modes`, which prints whether the terminal modes are the initial ones.
fn terminal() -> Tmux {
    let tmux = Tmux::start(80, 24).unwrap();
    tmux.line(
        "modes=$(stty -g); modes() { [ \"$(stty -g)\" = \"$modes\" ] && echo modes-are-back; }",
    )
    .unwrap();
    tmux
}

fn start(tmux: &Tmux, guest: &RunningGuest, arguments: &str) {
    let program = agent::program().unwrap();
    let line =
        format!("{} top --vm {} {arguments}; echo \"ended=$?\"", program.display(), guest.pid());
    tmux.line(&line).unwrap();
    tmux.wait("screen of the VM", |screen| screen.contains(&format!("(pid {}", guest.pid())))
        .unwrap();
    assert_eq!(tmux.property("alternate_on").unwrap(), "1");
    assert_eq!(tmux.property("mouse_any_flag").unwrap(), "1");
}

/// Process ID of the agent, found by its command line.
fn pid(guest: &RunningGuest) -> String {
    let of = format!("top --vm {}", guest.pid());
    let output =
        Command::new("pgrep").args(["-f", "--", &format!("vmexit {of}")]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned()
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args(["-s", signal, pid]).status().unwrap().success());
}

/// Demands that the agent ended with this code and has restored the terminal.
fn ensure_given_back(tmux: &Tmux, code: i32) {
    let ended = format!("ended={code}");
    tmux.wait(&ended, |screen| screen.contains(&ended)).unwrap();
    ensure_terminal_is_the_shells(tmux);
}

fn ensure_terminal_is_the_shells(tmux: &Tmux) {
    for property in ["alternate_on", "mouse_any_flag"] {
        assert_eq!(tmux.property(property).unwrap(), "0", "{property}");
    }
    assert_eq!(tmux.property("cursor_flag").unwrap(), "1");
    tmux.line("clear; modes").unwrap();
    tmux.wait("same modes", |screen| screen.contains("modes-are-back")).unwrap();
}

#[test]
fn top_restores_terminal_however_it_ends() {
    let (guest, tmux) = top("given-back", "");
    tmux.press(&["q"]).unwrap();
    ensure_given_back(&tmux, 0);
    start(&tmux, &guest, "");
    tmux.press(&["C-c"]).unwrap();
    ensure_given_back(&tmux, 0);
    for signal in ["TERM", "HUP", "INT"] {
        start(&tmux, &guest, "");
        kill(signal, &pid(&guest));
        ensure_given_back(&tmux, 0);
    }
    start(&tmux, &guest, "-n 2");
    ensure_given_back(&tmux, 0);
}

#[test]
fn top_suspends_and_resumes_with_terminal() {
    let (guest, tmux) = top("comes-and-goes", "");
    let shows = |screen: &str| screen.contains("0x608 IN");
    // As a job, so that the shell continues when the agent stops.
    tmux.press(&["q"]).unwrap();
    ensure_given_back(&tmux, 0);
    let program = agent::program().unwrap();
    tmux.line("set -m").unwrap();
    tmux.line(&format!("{} top --vm {}", program.display(), guest.pid())).unwrap();
    tmux.wait("screen", shows).unwrap();
    for by_key in [true, false] {
        if by_key {
            tmux.press(&["C-z"]).unwrap();
        } else {
            kill("TSTP", &pid(&guest));
        }
        tmux.wait("shell", |screen| screen.contains("Stopped") || screen.contains("stopped"))
            .unwrap();
        ensure_terminal_is_the_shells(&tmux);
        tmux.line("fg").unwrap();
        tmux.wait("screen again", shows).unwrap();
        assert_eq!(tmux.property("alternate_on").unwrap(), "1");
        assert_eq!(tmux.property("mouse_any_flag").unwrap(), "1");
    }
    tmux.press(&["q"]).unwrap();
    tmux.wait("shell", |screen| !shows(screen)).unwrap();
    ensure_terminal_is_the_shells(&tmux);
}

#[test]
fn top_keys_switch_screens_and_resize_is_followed() {
    let (guest, tmux) = top("by-keys", "-i 500ms");
    tmux.press(&["2"]).unwrap();
    tmux.wait("ports", |screen| screen.contains("IO-PORT") && screen.contains("acpi-tmr")).unwrap();
    tmux.press(&["/", "6", "0", "8", "Enter"]).unwrap();
    tmux.wait("a filter", |screen| screen.contains("▸ 0x608") && !screen.contains("0x71")).unwrap();
    tmux.press(&["Enter"]).unwrap();
    tmux.wait("a row", |screen| screen.contains("by-keys › 0x608 IN acpi-tmr")).unwrap();
    tmux.press(&["Escape"]).unwrap();
    tmux.wait("ports again", |screen| screen.contains("IO-PORT") && !screen.contains('›')).unwrap();
    // A key that follows Escape at once would be taken for Alt and that key.
    tmux.press(&["Escape"]).unwrap();
    tmux.wait("all ports", |screen| screen.contains("0x71")).unwrap();
    tmux.press(&["9"]).unwrap();
    tmux.wait("vCPUs", |screen| screen.contains("Thread")).unwrap();
    tmux.press(&["Escape"]).unwrap();
    let list = tmux.wait("the list", |screen| screen.contains("Top detail")).unwrap();
    assert!(list.contains("▸ by-keys"), "{list}");
    tmux.resize(200, 50).unwrap();
    tmux.wait("a wide list", |screen| screen.contains(&format!(" {} ", guest.pid()))).unwrap();
    assert_eq!(tmux.screen().unwrap().lines().count(), 50);
    tmux.resize(20, 5).unwrap();
    tmux.wait("a tiny list", |screen| screen.lines().all(|line| line.chars().count() <= 20))
        .unwrap();
    tmux.resize(80, 24).unwrap();
    tmux.press(&["?"]).unwrap();
    tmux.wait("help", |screen| screen.contains("pause; tracing goes on")).unwrap();
    tmux.press(&["x", "q"]).unwrap();
    ensure_given_back(&tmux, 0);
}

#[test]
fn top_counts_of_bounded_guest_are_exact() {
    const ROUNDS: u64 = 50;
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let mut running = Qemu::native("bounded").paused().start(&guest).unwrap();
    drop(running.qmp().unwrap());
    let tmux = terminal();
    start(&tmux, &running, "-i 500ms");
    // Since the baseline, as numbers.
    tmux.press(&["c", "%"]).unwrap();
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    tmux.press(&["2"]).unwrap();
    let expected = guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts());
    for (port, direction) in [
        (address::PM_TIMER, PortDirection::In),
        (address::RTC_INDEX, PortDirection::Out),
        (address::RTC_DATA, PortDirection::In),
        (address::SERIAL, PortDirection::Out),
    ] {
        let exits = expected.ports[&(port, direction)].exits;
        let shown =
            format!("{port:#x} {}", if direction == PortDirection::In { "IN" } else { "OUT" });
        // After the row's name come the device, the rate and the number.
        let all = |screen: &str| figure(screen, &shown, 2) == Some(exits);
        tmux.wait(&format!("{exits} of {shown}"), all).unwrap();
    }
    // A recording written by a key has the same counts.
    let directory = tempfile::tempdir().unwrap();
    tmux.press(&["q"]).unwrap();
    ensure_given_back(&tmux, 0);
    tmux.line(&format!("cd {}", directory.path().display())).unwrap();
    drop(running);
    let mut again = Qemu::native("bounded").paused().start(&guest).unwrap();
    drop(again.qmp().unwrap());
    start(&tmux, &again, "-i 500ms");
    again.resume().unwrap();
    again.wait_dots(ROUNDS, PATIENCE).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    tmux.press(&["c", "w"]).unwrap();
    tmux.wait("file", |screen| screen.contains("written; show it with: vmexit report ")).unwrap();
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "a temporary file is left");
    let file = files[0].path();
    let shown = agent::command(&["report", "-f", "json", file.to_str().unwrap()]);
    let report = JsonReport::of(&shown.unwrap().output().unwrap()).unwrap();
    report
        .ensure_ports("bounded", &guest.expected(ROUNDS).with_missed_hlts(again.missed_hlts()))
        .unwrap();
    tmux.press(&["q"]).unwrap();
    ensure_given_back(&tmux, 0);
}

#[test]
fn top_rates_match_capture() {
    let (guest, tmux) = top("rated", "-i 2s");
    tmux.press(&["2", "r", "c", "%"]).unwrap();
    // A capture of the same guest over about the same time.
    let pid = guest.pid().to_string();
    let capture = ["capture", "-q", "-d", "6s", "-f", "json", "--vm", &pid];
    let report = JsonReport::of(&agent::command(&capture).unwrap().output().unwrap()).unwrap();
    let screen = tmux.screen().unwrap();
    let shown = figure(&screen, "0x608 IN", 1).unwrap_or_else(|| panic!("no rate in:\n{screen}"));
    let row = report.port("rated", address::PM_TIMER, PortDirection::In).unwrap().unwrap();
    let captured = row.samples().unwrap() as f64 / report.number("/span/seconds").unwrap();
    // The spans differ by an interval at each end.
    let difference = (shown as f64 - captured).abs() / captured;
    println!("{shown}/s on the screen, {captured:.0}/s captured");
    assert!(difference < 0.34, "{shown}/s on the screen, {captured}/s captured");
}

#[test]
fn top_keeps_ended_vm_for_a_while() {
    let mut other = Qemu::native("stays").start(&BareGuest::demo()).unwrap();
    other.wait_dots(3, PATIENCE).unwrap();
    let mut guest = Qemu::native("goes-away").start(&BareGuest::demo()).unwrap();
    guest.wait_dots(3, PATIENCE).unwrap();
    let tmux = terminal();
    let (program, pids) = (agent::program().unwrap(), [guest.pid(), other.pid()]);
    let [gone, stays] = pids;
    tmux.line(&format!("{} top --vm {gone} --vm {stays} -i 100ms", program.display())).unwrap();
    tmux.wait("both", |screen| screen.contains("goes-away") && screen.contains("stays")).unwrap();
    tmux.press(&["/", "s", "t", "a", "Enter", "Escape"]).unwrap();
    tmux.wait("a cursor", |screen| screen.contains("▸ stays")).unwrap();
    drop(guest);
    tmux.wait("an end", |screen| screen.contains("! ended: goes-away")).unwrap();
    tmux.wait("it gone", |screen| !screen.contains("goes-away")).unwrap();
    assert!(tmux.screen().unwrap().contains("▸ stays"));
    tmux.press(&["q"]).unwrap();
}

#[test]
fn top_without_terminal_prints_text_frames() {
    let mut guest = Qemu::native("framed").start(&BareGuest::demo()).unwrap();
    guest.wait_dots(3, PATIENCE).unwrap();
    let pid = guest.pid().to_string();
    let began = Instant::now();
    let arguments = ["top", "-n", "3", "-i", "500ms", "--rows", "2", "--vm", &pid];
    let output = agent::command(&arguments).unwrap().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(began.elapsed() >= Duration::from_millis(1_500));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    assert_eq!(text.matches("vmexit 0.").count(), 3, "{text}");
    assert_eq!(text.matches("0x608 IN").count(), 3, "{text}");
    assert_eq!(text.matches("… and 2 more").count(), 3, "{text}");

    // The reader closes the pipe.
    let line = format!("$VMEXIT top -i 100ms --vm {pid} | head -n 1");
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("VMEXIT", agent::program().unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn top_without_vm_waits_on_screen_and_ends_in_batch() {
    ensure_failed(&run_isolated("$VMEXIT top --batch").unwrap(), 5, "no VM is running").unwrap();
    let tmux = Tmux::start(80, 24).unwrap();
    let program = agent::program().unwrap();
    let unshare = "unshare --mount --pid --fork --mount-proc";
    tmux.line(&format!("{unshare} {}", program.display())).unwrap();
    tmux.wait("an empty list", |screen| {
        screen.contains("no VM is running; VMs that start appear here")
    })
    .unwrap();
    tmux.press(&["q"]).unwrap();
    tmux.wait("the shell", |screen| {
        !screen.contains("no VM is running; VMs that start appear here")
    })
    .unwrap();
}

#[test]
fn top_with_bad_configuration_only_warns() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vmexit").join("config.toml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "interval = \"500ms\"\nsort = \"beauty\"\n").unwrap();
    let mut guest = Qemu::native("configured").start(&BareGuest::demo()).unwrap();
    guest.wait_dots(3, PATIENCE).unwrap();
    let output = agent::command(&["top", "-n", "1"])
        .unwrap()
        .env("XDG_CONFIG_HOME", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = format!(
        "{}:2: 'beauty' is unknown: use one of time, samples, rate, user, waiting, min, p50, avg, error, p99, max",
        file.display()
    );
    assert!(said.contains(&line), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(", 0.5"));
    let output =
        agent::command(&["top", "-n", "1", "--config", "/nowhere"]).unwrap().output().unwrap();
    ensure_failed(&output, 2, "/nowhere can't be read").unwrap();
}
