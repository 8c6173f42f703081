//! Tests with a synthetic `/proc`.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vmexit_core::vm::{Machine, Monitor, NoQmp};

use super::*;

/// A directory with processes. As often in `/proc`, the targets of links do not exist.
struct Proc(TempDir);

impl Proc {
    fn new() -> Self {
        // In memory: some tests make ten thousands of files.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::write(directory.path().join("uptime"), "1 1\n").unwrap();
        fs::create_dir(directory.path().join("self")).unwrap();
        Self(directory)
    }

    /// Adds a process with open files, a command line and named threads.
    fn process(&self, pid: u32, program: &str, files: &[&str], line: &[u8], threads: &[&str]) {
        let path = self.0.path().join(pid.to_string());
        fs::create_dir_all(path.join("fd")).unwrap();
        for (number, file) in files.iter().enumerate() {
            symlink(file, path.join("fd").join(number.to_string())).unwrap();
        }
        symlink(format!("/usr/bin/{program}"), path.join("exe")).unwrap();
        fs::write(path.join("comm"), format!("{}\n", &program[..program.len().min(15)])).unwrap();
        fs::write(path.join("cmdline"), line).unwrap();
        for (number, name) in (0..).zip(threads) {
            let task = path.join("task").join((pid + number).to_string());
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("comm"), format!("{name}\n")).unwrap();
        }
    }

    fn find(&self) -> FoundVms {
        find_all_in(self.0.path()).unwrap()
    }
}

const KVM: &str = "anon_inode:kvm-vm";
const VCPUS: [&str; 2] = ["anon_inode:kvm-vcpu:0", "anon_inode:kvm-vcpu:1"];

#[test]
fn find_all_returns_processes_with_kvm_vm() {
    let proc = Proc::new();
    proc.process(7, "bash", &["/dev/pts/0", "/dev/kvm"], b"bash\0", &["bash"]);
    proc.process(5, "kthreadd", &[], b"", &["kthreadd"]);
    let line = b"qemu-kvm\0-name\0guest=web,debug-threads=on\0-uuid\0c7a5fdbd-edaf-9455-926a-d65c16db1809\0\
                 -machine\0pc-q35-8.2,usb=off\0-chardev\0socket,id=charmonitor,fd=3\0-mon\0\
                 chardev=charmonitor,mode=control\0";
    let threads = ["qemu-kvm", "CPU 0/KVM", "CPU 1/KVM", "IO mon_iothread"];
    proc.process(40, "qemu-kvm (deleted)", &["pipe:[1]", KVM, VCPUS[0], VCPUS[1]], line, &threads);
    let found = proc.find();
    assert_eq!((found.seen, found.hidden, found.vms.len()), (2, 0, 1));
    let vm = &found.vms[0];
    assert_eq!((vm.pid, vm.name.as_str(), vm.vmm, vm.vcpus), (40, "web", Vmm::Qemu, 2));
    assert_eq!(vm.threads, [(41, 0), (42, 1)].into());
    assert_eq!(vm.machine, Machine::Named("pc-q35-8.2".into()));
    assert_eq!(vm.uuid.as_deref(), Some("c7a5fdbd-edaf-9455-926a-d65c16db1809"));
    assert!(vm.libvirt);
    assert_eq!(vm.monitors, [Monitor::Libvirt("web".into())]);
    assert!(vm.has_monitor && !vm.command_line_cut);
    assert!(vm.matches("web") && vm.matches("40") && !vm.matches("we"));
}

#[test]
fn find_all_recognizes_vmms() {
    let proc = Proc::new();
    let files = [KVM, VCPUS[0]];
    proc.process(10, "cloud-hypervisor", &files, b"ch\0--api-socket\0/run/a\0", &["main", "vcpu0"]);
    proc.process(20, "firecracker", &files, b"/firecracker\0--id\0b\0", &["main", "fc_vcpu 0"]);
    proc.process(30, "crosvm", &files, b"crosvm\0run\0", &["main", "crosvm_vcpu0"]);
    proc.process(40, "lkvm", &files, b"lkvm\0run\0--name\0d\0", &["main", "kvm-vcpu-0"]);
    // Two VMs in one process, and QEMU's options in another's command line.
    let line = b"acme\0-name\0x\0-qmp\0unix:/run/x\0";
    proc.process(50, "acme", &[KVM, VCPUS[0], KVM, VCPUS[0]], line, &["main", "vcpu0"]);
    proc.process(60, "qemu-system-x86_64", &files, b"", &["main"]);
    let found = proc.find();
    let vms: Vec<_> = found.vms.iter().map(|vm| (vm.name.as_str(), vm.vmm, vm.vcpus)).collect();
    let expected = [
        ("/run/a", Vmm::CloudHypervisor, 1),
        ("b", Vmm::Firecracker, 1),
        ("crosvm", Vmm::Crosvm, 1),
        ("d", Vmm::Kvmtool, 1),
        ("acme", Vmm::Other, 2),
        ("qemu-system-x86", Vmm::Qemu, 1),
    ];
    assert_eq!(vms, expected);
    for vm in &found.vms[..4] {
        assert_eq!(vm.threads, [(vm.pid + 1, 0)].into(), "{vm:?}");
    }
    assert!(found.vms[4..].iter().all(|vm| vm.threads.is_empty()));
    assert_eq!(found.vms[4].no_qmp(), Some(NoQmp::NotQemu));
    assert_eq!(found.vms[5].no_qmp(), Some(NoQmp::NotAsked));
    assert_eq!(found.vms[5].machine, Machine::Default);
}

#[test]
fn find_all_keeps_hostile_name_unchanged() {
    let proc = Proc::new();
    let name = b"\x1b]0;owned\x07\n\"\\\xff\xfe\xe2\x80\xae";
    let line =
        [b"qemu\0-name\0guest=".as_slice(), name, b"\0-qmp\0unix:/run/q,server=on\0"].concat();
    proc.process(9, "qemu-system-x86_64", &[KVM], &line, &["CPU 0/KVM\nCPU 1/KVM"]);
    let vm = proc.find().vms.remove(0);
    assert_eq!(vm.name, "\u{1b}]0;owned\u{7}\n\"\\\u{fffd}\u{fffd}\u{202e}");
    assert_eq!((vm.monitors[0].to_string().as_str(), vm.no_qmp()), ("QMP at /run/q", None));
    assert!(vm.threads.is_empty());
}

#[test]
fn find_all_reads_bounded_command_line() {
    let proc = Proc::new();
    let mut line = b"qemu\0-name\0first\0".to_vec();
    line.resize(2 << 20, b'x');
    line.extend(b"\0-name\0second\0");
    proc.process(9, "qemu-system-x86_64", &[KVM], &line, &[]);
    let vm = proc.find().vms.remove(0);
    assert_eq!((vm.name.as_str(), vm.command_line_cut), ("first", true));
}

/// Its words were searched again for each monitor, and all of them stayed in memory.
#[test]
fn find_all_with_many_short_words_takes_linear_time() {
    let proc = Proc::new();
    let line = [b"qemu\0".as_slice(), &b"-qmp\0chardev:x\0-chardev\0a\0".repeat(32 << 10)].concat();
    (1..=20).for_each(|pid| proc.process(pid, "qemu-system-x86_64", &[KVM], &line, &[]));
    let begun = Instant::now();
    let found = proc.find();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(found.vms.len() == 20 && found.vms.iter().all(|vm| vm.command_line_cut));
}

#[test]
fn find_all_looks_at_bounded_number_of_files() {
    let proc = Proc::new();
    // Unlike /proc, other file systems list in any order.
    let files = [KVM, VCPUS[0], VCPUS[0], VCPUS[0]].repeat(MAX_FILES / 2);
    proc.process(7, "qemu-system-x86_64", &files, b"", &[]);
    let vms = proc.find().vms;
    assert!(vms[0].vcpus < MAX_FILES, "{}", vms[0].vcpus);
}

#[test]
fn find_all_reads_bounded_number_of_threads() {
    let proc = Proc::new();
    proc.process(7, "qemu-system-x86_64", &[KVM], b"", &["CPU 0/KVM"; 9000]);
    assert_eq!(proc.find().vms[0].threads.len(), 4096);
}

#[test]
fn process_looks_like_vmm_by_command_line_or_thread() {
    let proc = Proc::new();
    proc.process(1, "systemd", &[], b"/sbin/init\0splash\0", &["systemd"]);
    proc.process(10, "x", &[], b"/usr/bin/qemu-system-x86_64\0", &["x"]);
    proc.process(20, "acme", &[], b"acme\0", &["acme", "CPU 0/KVM"]);
    let looks = |pid| looks_like_vmm(&Process::new(proc.0.path(), pid));
    assert_eq!([1, 10, 20].map(looks), [false, true, true]);
}

#[test]
fn find_all_without_procfs_is_an_error() {
    assert!(find_all_in(Path::new("/nowhere")).is_err());
}
