//! Device names. A bare guest accesses known registers of a real QEMU, and the agent asks QEMU for the devices.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{thread::sleep, time::Duration};

use vmexit_tests::{
    agent::{self, JsonReport, JsonRow, RunningCapture},
    guest::{BareGuest, Qemu, QemuMachine, RunningGuest, address},
    namespaces::ensure_failed,
};

const ROUNDS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Event, port or address, direction, QEMU's name of the device, and the offset in it.
const DEVICES: [(&str, u64, &str, &str, u64); 8] = [
    ("ioport", address::PM_TIMER as u64, "in", "acpi-tmr", 0),
    ("ioport", address::RTC_INDEX as u64, "out", "rtc-index", 0),
    ("ioport", address::RTC_DATA as u64, "in", "rtc", 1),
    ("ioport", address::SERIAL as u64, "out", "serial", 0),
    ("ioport", address::PCI_ADDRESS as u64, "out", "pci-conf-idx", 0),
    ("ioport", address::PIC_MASK as u64, "out", "kvm-pic", 1),
    ("mmio", address::HPET_COUNTER, "read", "hpet", 0xf0),
    ("mmio", address::BAR, "read", "virtio-pci-common-virtio-rng", 0),
];

fn guest() -> BareGuest {
    BareGuest { bar_read: 4, ..BareGuest::sampler().rounds(ROUNDS as u32) }
}

/// Starts the guest, paused.
fn start(qemu: Qemu) -> RunningGuest {
    let qemu = qemu.paused().arg("-device").arg(Qemu::VIRTIO);
    let mut running = qemu.start(&guest()).unwrap();
    // QMP answers once the machine is complete. It serves one client at a time.
    drop(running.qmp().unwrap());
    running
}

fn captured(mut running: RunningGuest, arguments: &[&str]) -> JsonReport {
    let pid = running.pid().to_string();
    let capture =
        RunningCapture::start(&[&["-d", "10m", "--vm", &pid, "-f", "json"], arguments].concat())
            .unwrap();
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    sleep(Duration::from_millis(300));
    let report = capture.report().unwrap();
    let expected = guest().expected(ROUNDS).with_missed_hlts(running.missed_hlts());
    report.ensure_ports("devices", &expected).unwrap();
    report
}

fn row<'a>(report: &'a JsonReport, event: &str, number: u64, direction: &str) -> JsonRow<'a> {
    report.detail("devices", event, number, Some(direction)).unwrap().unwrap()
}

fn assert_named_by_qemu(running: RunningGuest, arguments: &[&str]) {
    let report = captured(running, arguments);
    for (event, number, direction, name, offset) in DEVICES {
        let row = row(&report, event, number, direction);
        let device = row.device();
        assert_eq!(device["name"], name, "{number:#x}");
        assert_eq!(device["offset"], offset, "{name}");
        assert_eq!(device["guess"], false, "{name}");
    }
    let owner = row(&report, "mmio", address::BAR, "read");
    assert_eq!(owner.device()["owner"], "rng7");
    let nobodys = row(&report, "ioport", address::STRING_OUT.into(), "out");
    let nobodys = nobodys.device();
    assert!(nobodys["name"].is_null() && nobodys["guess"] == false, "{nobodys}");
}

fn assert_guessed(running: RunningGuest, arguments: &[&str]) {
    let report = captured(running, arguments);
    let guessed = row(&report, "ioport", address::PM_TIMER.into(), "in");
    let guessed = guessed.device();
    assert_eq!(guessed["name"], "acpi-tmr");
    assert_eq!(guessed["guess"], true);
    let unknown = row(&report, "ioport", address::STRING_OUT.into(), "out");
    assert!(unknown.device().is_null(), "{}", unknown.device());
}

#[test]
fn pc_machine_devices_are_named_by_qemu() {
    assert_named_by_qemu(start(Qemu::native("devices")), &[]);
}

#[test]
fn q35_machine_devices_are_named_by_qemu() {
    assert_named_by_qemu(start(Qemu::native("devices").machine(QemuMachine::Q35)), &[]);
}

#[test]
fn devices_with_guess_option_are_marked_as_guesses() {
    assert_guessed(start(Qemu::native("devices")), &["--devices", "guess"]);
}

#[test]
fn devices_behind_hidden_qmp_socket_need_qmp_option() {
    let hidden = || start(Qemu::native("devices").hidden_qmp());
    assert_guessed(hidden(), &[]);
    let running = hidden();
    let socket = running.qmp_socket();
    assert_named_by_qemu(running, &["--qmp", socket.to_str().unwrap()]);
}

#[test]
fn qmp_option_with_two_vms_is_refused() {
    let [_one, _two] = ["twins"; 2].map(|name| start(Qemu::native(name)));
    for command in ["capture", "trace"] {
        let arguments = [command, "-d", "1s", "--vm", "twins", "--qmp", "/run/qmp"];
        let output = agent::command(&arguments).unwrap().output().unwrap();
        ensure_failed(&output, 2, "--qmp is the socket of one VM").unwrap();
    }
}
