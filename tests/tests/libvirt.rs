//! Memory trees of libvirt domains, through a real libvirt. Its daemon runs in namespaces of its own with empty
//! directories: it sees no domain of this machine, and ends with the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    env, fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use vmexit::{
    discover,
    monitor::{self, Failure, LibvirtError, MonitorError, MonitorOptions, Virsh},
};
use vmexit_core::vm::{Monitor, Vm};

/// Environment variable that is set in the inner half of a test.
const INSIDE: &str = "VMEXIT_TEST_INSIDE";

/// Directories that libvirt writes to. They must not be those of the machine.
const DIRECTORIES: [&str; 5] =
    ["/run", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"];

/// Configuration without log daemon, cgroups and other users, which are not under test.
const CONFIGURATION: &str = r#"
user = "root"
group = "root"
stdio_handler = "file"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
"#;

/// Runs the inner half of a test, by name, in new mount, network and process namespaces that end with it.
fn inside(test: &str) {
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        // The first process must reap the daemons of libvirt, as a shell does.
        .args(["sh", "-c", "\"$0\" \"$@\"; exit $?"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) must run: be root");
    let [said, errors] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: cargo xtask setup"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn virsh(arguments: &[&str]) -> String {
    run("virsh", &[&["--quiet", "--connect", "qemu:///system"], arguments].concat())
}

/// Starts the daemon. For the inner half only, since it hides directories from its caller.
fn start_libvirt() {
    assert!(env::var_os(INSIDE).is_some(), "this is the inner half of another test");
    for directory in DIRECTORIES {
        fs::create_dir_all(directory).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", directory]);
    }
    fs::create_dir("/run/libvirt").unwrap();
    fs::write("/etc/libvirt/qemu.conf", CONFIGURATION).unwrap();
    // The default user of libvirt must exist even if another one is configured.
    for (file, line) in [
        ("/etc/passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"),
        ("/etc/group", "libvirt-qemu:x:64055:"),
    ] {
        let all = fs::read_to_string(file).unwrap() + line + "\n";
        fs::write("/run/users", all).unwrap();
        run("mount", &["--bind", "/run/users", file]);
        fs::remove_file("/run/users").unwrap();
    }
    // Returns once the socket exists.
    run("libvirtd", &["--daemon"]);
}

/// Starts a paused domain and returns its VM.
fn start_domain(name: &str, mib: u32) -> Vm {
    let xml = format!(
        "<domain type='kvm'><name>{name}</name><memory unit='MiB'>{mib}</memory>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os>\
         <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu></domain>"
    );
    fs::write("/run/domain.xml", xml).unwrap();
    virsh(&["create", "--paused", "/run/domain.xml"]);
    let found = discover::find_all().unwrap().vms;
    let vm = found.into_iter().find(|vm| vm.name == name).expect("a VM of this name");
    assert_eq!(vm.monitors, [Monitor::Libvirt(name.to_owned())]);
    vm
}

fn ask(vm: &Vm, options: MonitorOptions) -> Result<String, MonitorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(monitor::memory_tree(vm, &options))
}

fn patient() -> MonitorOptions {
    MonitorOptions { patience: Duration::from_secs(10), ..MonitorOptions::default() }
}

/// Size of the guest's memory in its memory tree, MiB.
fn memory_of(vm: &Vm) -> u64 {
    let tree = ask(vm, patient()).unwrap();
    let ram = tree.lines().filter(|line| line.trim_end().contains("ram): pc.ram"));
    let ends = ram.filter_map(|line| line.split(['-', ' ']).find(|part| part.ends_with("fffff")));
    ends.map(|end| u64::from_str_radix(end, 16).unwrap() + 1).max().unwrap() >> 20
}

fn failure(result: Result<String, MonitorError>) -> LibvirtError {
    match result.unwrap_err().tried.pop() {
        Some((_, Failure::Libvirt(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn libvirt_domains_answer_with_their_memory_tree() {
    inside("libvirt_domains_inner_half");
}

#[test]
#[ignore = "the inner half of another test"]
fn libvirt_domains_inner_half() {
    start_libvirt();
    // Names that virsh could take for the ID of the other domain, or for an option.
    let first = start_domain("2", 16);
    let second = start_domain("1", 32);
    let odd = start_domain("--help ;$(id),x=%", 48);

    let log = |vm: &Vm| fs::read_to_string(format!("/var/log/libvirt/qemu/{}.log", vm.name));
    let left =
        failure(ask(&first, MonitorOptions { virsh: Virsh::Skip, ..MonitorOptions::default() }));
    assert!(matches!(left, LibvirtError::Skipped), "{left}");
    assert!(!log(&first).unwrap().contains("custom-monitor"));

    assert_eq!([&first, &second, &odd].map(memory_of), [16, 32, 48]);
    assert!(log(&first).unwrap().contains("custom-monitor"));

    // A process that claims the name of another domain.
    let pretends = Vm { pid: second.pid, ..first.clone() };
    let unknown = failure(ask(&pretends, MonitorOptions::default()));
    assert!(matches!(unknown, LibvirtError::Unknown(_)), "{unknown}");

    virsh(&["destroy", "--domain=--help ;$(id),x=%"]);
    let gone = failure(ask(&odd, MonitorOptions::default()));
    assert!(matches!(gone, LibvirtError::Unknown(_)), "{gone}");

    // The daemon hangs, then it is killed.
    let daemon = fs::read_to_string("/run/libvirtd.pid").unwrap();
    run("kill", &["-STOP", daemon.trim()]);
    let begun = Instant::now();
    let patience = Duration::from_millis(500);
    let silent = failure(ask(&first, MonitorOptions { patience, ..MonitorOptions::default() }));
    assert!(matches!(silent, LibvirtError::NoAnswer(_)), "{silent}");
    assert!(begun.elapsed() < 10 * patience);
    run("kill", &["-KILL", daemon.trim()]);
    let failed = failure(ask(&first, patient()));
    assert!(matches!(failed, LibvirtError::Failed(_)), "{failed}");
}
