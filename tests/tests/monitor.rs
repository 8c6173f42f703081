//! Memory trees of real QEMUs, through QMP sockets in every form of the command line. libvirt.rs has domains of
//! libvirt.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use vmexit::{
    discover,
    monitor::{self, Failure, MonitorError, MonitorOptions, QmpError, SocketError},
};
use vmexit_core::vm::Vm;
use vmexit_tests::guest::{BareGuest, Qemu};

/// Arguments of a VM whose vCPUs do not run.
const MACHINE: [&str; 10] =
    ["-accel", "kvm", "-cpu", "qemu64,-pni", "-m", "16", "-display", "none", "-nodefaults", "-S"];

/// A QEMU process that ends when the value is dropped.
struct StartedQemu(Child);

impl StartedQemu {
    /// Starts QEMU with these further arguments in this directory.
    fn here(directory: &Path, arguments: &[&str]) -> Self {
        let mut qemu = Command::new("qemu-system-x86_64");
        Self::by(qemu.current_dir(directory).args(MACHINE).args(arguments))
    }

    fn by(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// Waits for the VM.
    fn vm(&mut self) -> Vm {
        let begun = Instant::now();
        loop {
            if let Some(vm) = discover::find(self.0.id()).filter(|vm| vm.vcpus == 1) {
                return vm;
            }
            assert_eq!(self.0.try_wait().unwrap(), None, "QEMU has ended");
            assert!(begun.elapsed() < Duration::from_secs(20), "no VM");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for StartedQemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(vm: &Vm, patience: Duration) -> Result<String, MonitorError> {
    let options = MonitorOptions { patience, ..MonitorOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(monitor::memory_tree(vm, &options))
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// Demands that QEMU answers with its memory tree and that its vCPUs have not run.
fn assert_answers(vm: &Vm) {
    let tree = ask(vm, monitor::DEFAULT_PATIENCE * 5).unwrap();
    // The firmware has not run yet, so only devices with fixed addresses are mapped.
    let found = tree.lines().find(|line| line.contains(": fwcfg ")).unwrap_or_default();
    assert!(found.contains("0510-") && found.contains("(prio 0, i/o)"), "{found} in {tree}");
}

/// Failure of the only monitor that was tried.
fn failure(result: Result<String, MonitorError>) -> Failure {
    let mut error = result.expect_err("no answer was to be had");
    assert_eq!(error.tried.len(), 1, "{error}");
    error.tried.remove(0).1
}

#[test]
fn qmp_socket_in_every_command_line_form_answers() {
    let directory = tempfile::tempdir().unwrap();
    let absolute = directory.path().join("absolute");
    let absolute = format!("unix:{},server=on,wait=off", absolute.display());
    let name = format!("vmexit-test-{}", std::process::id());
    let [tight, loose] = ["on", "off"]
        .map(|tight| format!("unix:{name},abstract=on,tight={tight},server=on,wait=off"));
    let control = ["-mon", "chardev=c,mode=control,pretty=on"];
    let ways: [&[&str]; 7] = [
        &["-qmp", &absolute],
        &["-qmp", "unix:relative,server,nowait"],
        &["-qmp-pretty", "unix:./pretty,server=on,wait=off"],
        &["-qmp", &tight],
        &["-qmp", &loose],
        &["-chardev", "socket,id=c,path=a,,b=c,server=on,wait=off", control[0], control[1]],
        &["-qmp", "chardev:d", "-chardev", "socket,path=d,id=d,server=on,wait=off"],
    ];
    let mut all: Vec<_> = ways.iter().map(|way| StartedQemu::here(directory.path(), way)).collect();
    for (started, way) in all.iter_mut().zip(ways) {
        let vm = started.vm();
        assert_eq!(vm.monitors.len(), 1, "{way:?}: {:?}", vm.monitors);
        assert_answers(&vm);
    }
}

#[test]
fn qmp_socket_file_of_other_user_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut started = StartedQemu::here(directory.path(), &["-qmp", "unix:q,server=on,wait=off"]);
    let vm = started.vm();
    assert_answers(&vm);
    chown(directory.path().join("q"), Some(12_345), None).unwrap();
    let failure = failure(ask(&vm, monitor::DEFAULT_PATIENCE));
    assert!(matches!(failure, Failure::Socket(SocketError::OtherUser(12_345, _))), "{failure}");
}

/// The socket is in a file system that only this QEMU sees, some behind a link that is dangling for others.
#[test]
fn qmp_socket_in_other_mount_namespace_answers() {
    let directory = tempfile::tempdir().unwrap();
    for socket in ["$PWD/link/q", "link/q", "../own/real/q"] {
        let line = format!(
            "mount -t tmpfs tmpfs $PWD && cd $PWD && mkdir -p own/real && cd own && ln -s $PWD/real link && \
             exec qemu-system-x86_64 {} -qmp unix:{socket},server=on,wait=off",
            MACHINE.join(" ")
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &line]).current_dir(directory.path());
        let mut started = StartedQemu::by(&mut unshare);
        let vm = started.vm();
        if socket == "link/q" {
            // An absolute link is followed from the agent's root, so this path can't work.
            assert!(matches!(failure(ask(&vm, monitor::DEFAULT_PATIENCE)), Failure::Socket(_)));
        } else {
            assert_answers(&vm);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn qmp_socket_of_daemonized_qemu_answers() {
    let directory = tempfile::tempdir().unwrap();
    let [socket, pid] = ["q", "pid"].map(|name| directory.path().join(name));
    let qmp = format!("unix:{},server=on,wait=off", socket.display());
    let arguments = ["-qmp", &qmp, "-daemonize", "-pidfile", "pid"];
    let mut started = StartedQemu::here(directory.path(), &arguments);
    assert!(started.0.wait().unwrap().success());
    let pid = fs::read_to_string(pid).unwrap().trim().to_owned();
    let answer = discover::find(pid.parse().unwrap()).map(|vm| ask(&vm, monitor::DEFAULT_PATIENCE));
    signal("-KILL", &pid);
    answer.expect("it is a VM").unwrap();
}

#[test]
fn qmp_socket_held_by_other_program_fails_in_time() {
    let patience = Duration::from_millis(300);
    let mut running = Qemu::native("held").paused().start(&BareGuest::demo()).unwrap();
    let held = running.qmp().unwrap();
    let vm = discover::find(running.pid()).unwrap();
    let begun = Instant::now();
    let (mut waited, mut refused) = (0, false);
    // Connections that timed out stay in QEMU's queue until it accepts them.
    while !refused {
        match failure(ask(&vm, patience)) {
            Failure::Qmp(error @ QmpError::NoGreeting(_)) => {
                assert!(error.to_string().contains("another program may be connected"), "{error}");
                waited += 1;
            }
            Failure::Socket(SocketError::Busy) => refused = true,
            other => panic!("{other}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    }
    assert!(waited > 0);
    drop(held);
    while matches!(&ask(&vm, monitor::DEFAULT_PATIENCE), Err(error) if error.to_string().contains("waiting"))
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "its queue is still full");
    }
    assert_answers(&vm);
}

fn has_stopped(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|task| {
        fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| stat.contains(") T "))
    })
}

#[test]
fn qmp_socket_of_stopped_qemu_times_out() {
    let mut running = Qemu::native("hangs").paused().start(&BareGuest::demo()).unwrap();
    drop(running.qmp().unwrap());
    let vm = discover::find(running.pid()).unwrap();
    signal("-STOP", &vm.pid.to_string());
    // Threads stop one by one; the one that greets may be the last.
    while !has_stopped(vm.pid) {
        sleep(Duration::from_millis(10));
    }
    let hung = failure(ask(&vm, Duration::from_millis(300)));
    signal("-CONT", &vm.pid.to_string());
    assert!(matches!(hung, Failure::Qmp(QmpError::NoGreeting(_))), "{hung}");
    assert_answers(&vm);
}

/// The command line names the socket of another VM.
#[test]
fn qmp_socket_of_other_vm_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = StartedQemu::here(directory.path(), &["-qmp", "unix:q,server=on,wait=off"]);
    let named = victim.vm();
    let mut other = StartedQemu::here(directory.path(), &["-qmp", "unix:p,server=on,wait=off"]);
    let pretends = Vm { monitors: named.monitors.clone(), ..other.vm() };
    match failure(ask(&pretends, monitor::DEFAULT_PATIENCE)) {
        Failure::Socket(SocketError::NotListening(pid)) => assert_eq!(pid, pretends.pid),
        other => panic!("{other}"),
    }
    assert_answers(&named);
}
