//! `vmexit vms` with real VMs: QEMU under KVM, and the minimal VMM of these tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::path::Path;

use serde_json::Value;
use vmexit_core::vm::bounded_name;
use vmexit_tests::{
    agent,
    guest::{BareGuest, Qemu, QemuMachine, kvm_usable, vcpus::Vcpus},
    namespaces::{ensure_failed, run_isolated},
};

/// Characters that must not reach a terminal: escapes and other controls, line ends, and characters that reorder text,
/// are invisible, or combine.
const HOSTILE: &str =
    "\u{1b}]0;owned\u{7}\u{1b}[2J\n\r\t\"quoted\"\\,\u{7f}\u{9b}31m\u{202e}\u{2028}\u{200b}";

fn vms(format: &str) -> String {
    let output = agent::command(&["vms", "--format", format]).unwrap().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// VM with this process ID.
fn vm(list: &Value, pid: u32) -> &Value {
    let vms = list["vms"].as_array().unwrap();
    vms.iter().find(|vm| vm["pid"] == pid).unwrap_or_else(|| panic!("no VM {pid} in {list}"))
}

/// Line of a table with this process ID in its second column.
fn line(table: &str, pid: u32) -> &str {
    let pid = format!(" {pid} ");
    let mut lines = table.lines().filter(|line| line.contains(&pid));
    let line = lines.next().unwrap_or_else(|| panic!("no VM {pid} in:\n{table}"));
    assert_eq!(lines.next(), None, "two lines:\n{table}");
    line
}

#[test]
fn vms_with_hostile_name_escapes_it() {
    let name =
        format!("{HOSTILE}{}{}", "e\u{301}\u{301}\u{301}\u{301}".repeat(100), "x".repeat(10_000));
    let qemu = Qemu::native(&name).machine(QemuMachine::Q35).vcpus(2).paused();
    let uuid = "C7A5FDBD-EDAF-9455-926A-D65C16DB1809";
    let mut running = qemu.arg("-uuid").arg(uuid).start(&BareGuest::demo()).unwrap();
    // QMP answers once the machine is complete.
    drop(running.qmp().unwrap());
    let socket = running.qmp_socket().to_string_lossy().into_owned();

    let json = vms("json");
    assert!(!json.chars().any(|c| c.is_control() && c != '\n'), "{json}");
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list["schema"], 1);
    let found = vm(&list, running.pid());
    assert_eq!(found["name"], *bounded_name(&name));
    assert_eq!(found["vmm"], "qemu");
    assert_eq!(found["machine"], "q35");
    assert_eq!(found["libvirt"], false);
    assert_eq!(found["uuid"], uuid.to_lowercase());
    assert_eq!(found["vcpus"], 2);
    assert_eq!(found["monitors"], Value::from([format!("QMP at {socket}")]));
    assert_eq!(found["no_monitor"], Value::Null);
    let threads = found["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2);
    for (number, thread) in threads.iter().enumerate() {
        assert_eq!(thread["id"], number);
        let task = format!("/proc/{}/task/{}", running.pid(), thread["tid"]);
        assert!(Path::new(&task).exists(), "{task}");
    }

    let table = vms("text");
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table}");
    for bad in ['\u{202e}', '\u{2028}', '\u{200b}'] {
        assert!(!table.contains(bad), "{bad:?} is in:\n{table}");
    }
    let line = line(&table, running.pid());
    let shown = r#"\u{1b}]0;owned\u{7}\u{1b}[2J\n\r\t"quoted"\,\u{7f}\u{9b}31m…  "#;
    assert!(line.starts_with(shown), "{line}");
    for part in [" QEMU ", " q35 ", " 2 ", &uuid.to_lowercase(), &socket] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn vms_with_other_vmm_lists_it() {
    kvm_usable().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_vmexit-vcpus"));
    let (small, large) = (Vcpus::start(program, 3).unwrap(), Vcpus::start(program, 10).unwrap());

    let list: Value = serde_json::from_str(&vms("json")).unwrap();
    let found = vm(&list, small.pid());
    assert_eq!(found["name"], "vmexit-vcpus");
    assert_eq!(found["vmm"], "other");
    assert_eq!(found["machine"], Value::Null);
    assert_eq!(found["vcpus"], 3);
    // vCPU threads have the same names as QEMU's.
    assert_eq!(found["threads"].as_array().unwrap().len(), 3);
    assert_eq!(found["monitors"], Value::Array(Vec::new()));
    assert_eq!(found["no_monitor"], "not QEMU");
    // The VMs are those of its child processes.
    let pids: Vec<u64> =
        list["vms"].as_array().unwrap().iter().map(|vm| vm["pid"].as_u64().unwrap()).collect();
    assert!(!pids.contains(&large.pid().into()), "{list}");

    let table = vms("text");
    let words: Vec<&str> = line(&table, small.pid()).split_whitespace().collect();
    assert_eq!(words[0], "vmexit-vcpus", "{table}");
    assert_eq!(&words[2..5], ["other", "-", "3"], "{table}");
    assert!(table.contains("none: not QEMU"), "{table}");
    let names: Vec<&str> =
        list["vms"].as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn vms_without_vm_exits_with_5() {
    for format in ["text", "json"] {
        ensure_failed(
            &run_isolated(&format!("\"$VMEXIT\" vms -f {format}")).unwrap(),
            5,
            "no VM is running",
        )
        .unwrap();
    }
}

#[test]
fn vms_without_ptrace_capability_names_it() {
    // The user is the same, but a process with fewer capabilities may not inspect the others.
    let line = "sleep 60 & sleep 60 & setpriv --inh-caps=-all --bounding-set=-all \"$VMEXIT\" vms";
    ensure_failed(&run_isolated(line).unwrap(), 3, "CAP_SYS_PTRACE").unwrap();
}
