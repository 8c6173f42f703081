//! The packages, installed in a fresh Debian and in one booted by its own systemd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    thread::sleep,
    time::{Duration, Instant},
};

use vmexit_tests::{debian::Debian, packages::Packages, served};

const PATIENCE: Duration = Duration::from_secs(30);

/// Threshold for `systemd-analyze security`, in tenths. The exposure of the unit is 1.9 of 10: a port, and the
/// capabilities to load programs and to inspect the VMs of all users.
const EXPOSURE: &str = "20";

static PACKAGES: LazyLock<Packages> = LazyLock::new(|| Packages::make().unwrap());

fn at_rest() -> Debian {
    Debian::at_rest(PACKAGES.directory().unwrap()).unwrap()
}

#[test]
fn archive_program_is_static_and_runs_alone() {
    let directory = tempfile::tempdir().unwrap();
    let tar = Command::new("tar")
        .args(["--strip-components=1", "-xf"])
        .arg(&PACKAGES.archive)
        .arg("-C")
        .arg(directory.path())
        .status();
    assert!(tar.unwrap().success());
    let program = directory.path().join("bin/vmexit");
    let elf = Command::new("readelf").args(["-lWd"]).arg(&program).output().unwrap();
    let elf = String::from_utf8(elf.stdout).unwrap();
    assert!(elf.contains("LOAD") && !elf.contains("INTERP") && !elf.contains("NEEDED"), "{elf}");
    // The program has no path of the machine that built it.
    let text = fs::read(&program).unwrap();
    let text = String::from_utf8_lossy(&text);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    for place in ["/.cargo/", "/.rustup/", "/registry/src/", &sources] {
        assert!(!text.contains(place), "{place}");
    }
    // It runs in a root directory with no other file.
    let mut alone = Command::new("chroot");
    let version = alone.arg(directory.path()).args(["/bin/vmexit", "--version"]).output().unwrap();
    assert_eq!(version.stdout, format!("vmexit {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

/// All files except those of dpkg's own data.
fn files(debian: &Debian) -> BTreeSet<String> {
    let find = "find / -xdev -path /var/lib/dpkg -prune -o -path /var/log -prune -o -print";
    debian.run(find).unwrap().lines().map(str::to_owned).collect()
}

/// Commands in a help text.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn deb_without_systemd_installs_whole_and_purges_clean() {
    let debian = at_rest();
    debian.run("dpkg --purge systemd-sysv systemd").unwrap();
    let before = files(&debian);
    debian.run("dpkg --install /packages/*.deb").unwrap();
    assert_eq!(debian.run("dpkg --verify vmexit").unwrap(), "");

    let version = debian.run("vmexit --version").unwrap();
    assert_eq!(version, format!("vmexit {}\n", env!("CARGO_PKG_VERSION")));
    // It checks this host's KVM.
    let doctor = debian.run("vmexit doctor").unwrap();
    for check in ["permission ", "tracefs ", "kvm_exit ", "kvm_entry ", "kvm_pio ", "programs "] {
        assert!(doctor.contains(&format!(" {check}")), "no {check}in {doctor}");
    }

    let commands = commands(&debian.run("vmexit --help").unwrap());
    assert!(commands.len() > 10 && commands.contains(&"serve".to_owned()), "{commands:?}");
    let pages = debian.run("cd /usr/share/man/man1; zgrep -l '^\\.TH ' vmexit*.1.gz").unwrap();
    let pages: BTreeSet<&str> = pages.lines().collect();
    assert!(pages.contains("vmexit.1.gz") && pages.contains("vmexit-import-perf.1.gz"));
    let bash = "/usr/share/bash-completion/completions/vmexit";
    let completions = [
        bash,
        "/usr/share/fish/vendor_completions.d/vmexit.fish",
        "/usr/share/zsh/vendor-completions/_vmexit",
    ]
    .map(|path| debian.run(&format!("cat {path}")).unwrap());
    for command in &commands {
        assert!(pages.contains(format!("vmexit-{command}.1.gz").as_str()), "{command}: {pages:?}");
        assert!(completions.iter().all(|script| script.contains(command)), "{command}");
    }
    // Completion as by bash on tab.
    let tab = format!(
        "source {bash}; COMP_WORDS=(vmexit ser) COMP_CWORD=1; _vmexit vmexit ser vmexit; echo $COMPREPLY"
    );
    assert_eq!(debian.run(&tab).unwrap(), "serve\n");

    let listed = debian.run("dpkg --listfiles vmexit").unwrap();
    for file in [
        "/usr/share/doc/vmexit/copyright",
        "/usr/share/doc/vmexit/changelog.gz",
        "/usr/share/doc/vmexit/third-party.txt.gz",
        "/usr/share/doc/vmexit/vmexit.cdx.json.gz",
        "/usr/share/vmexit/grafana/vmexit.json",
        "/usr/share/vmexit/prometheus/scrape.yml",
        "/usr/share/vmexit/prometheus/vmexit.rules.yml",
    ] {
        assert!(listed.lines().any(|line| line == file), "no {file} in {listed}");
    }

    debian.run("dpkg --purge vmexit").unwrap();
    let after = files(&debian);
    assert_eq!(before, after, "{:?}", after.symmetric_difference(&before).collect::<Vec<_>>());
    assert_eq!(debian.run("find /var/lib/dpkg/info -name 'vmexit*'").unwrap(), "");
}

/// Waits until a condition holds.
fn wait(debian: &Debian, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(
            Instant::now() < deadline,
            "{}",
            debian.run("systemctl status vmexit; true").unwrap()
        );
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn deb_service_runs_as_restricted_user_under_systemd() {
    let debian = Debian::booted(PACKAGES.directory().unwrap()).unwrap();
    let run = |line: &str| debian.run(line).unwrap();
    let property = |name: &str| {
        run(&format!("systemctl show vmexit --value --property {name}")).trim_end().to_owned()
    };
    let set = |settings: &str| {
        run(&format!(
            "mkdir -p /run/systemd/system/vmexit.service.d; \
             printf '[Service]\\n{settings}\\n' >/run/systemd/system/vmexit.service.d/test.conf; \
             systemctl daemon-reload; systemctl restart vmexit"
        ));
    };
    run("dpkg --install /packages/*.deb");
    assert_eq!(run("systemctl is-enabled vmexit || true"), "disabled\n");
    assert_eq!(property("ActiveState"), "inactive");
    run("systemd-analyze verify --man=no vmexit.service");
    run(&format!("systemd-analyze security --no-pager --threshold={EXPOSURE} vmexit.service"));

    // The service is active once it counts.
    run("systemctl enable --now vmexit");
    assert_eq!(property("ActiveState"), "active");
    assert_eq!(property("StatusText"), "counting");
    let exposition = || {
        run(
            "exec 3<>/dev/tcp/127.0.0.1/9762; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
        )
    };
    let intervals = served::samples(&exposition(), "vmexit_intervals_total");
    assert_eq!(intervals.len(), 1, "{}", exposition());
    let status = run(&format!("cat /proc/{}/status", property("MainPID")));
    let field = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
        lines.find(|(field, _)| *field == name).unwrap().1.to_owned()
    };
    assert_ne!(field("Uid").split('\t').next(), Some("0"));
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));

    // In its sandbox it sees VMs of other users.
    let mut vcpus = debian.beside(env!("CARGO_BIN_EXE_vmexit-vcpus")).unwrap();
    let mut vcpus = vcpus.arg("2").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    run("echo 'OPTIONS=\"-i 200ms\"' >/etc/default/vmexit; systemctl restart vmexit");
    let has_vm = || {
        let vms = served::samples(&exposition(), "vmexit_vm_info");
        vms.iter().any(|(labels, _)| labels["vm"] == "vmexit-vcpus" && labels["vmm"] == "other")
    };
    wait(&debian, has_vm);
    // It identifies threads by their IDs on the host.
    wait(&debian, || served::samples(&exposition(), "vmexit_accesses_total").len() >= 20);
    // A reload starts a new recording file and does not interrupt the counting.
    let files =
        || run("find /var/lib/vmexit/ -name '*.vmexit' | wc -l").trim().parse::<u32>().unwrap();
    wait(&debian, || files() > 0);
    let (before, pid) = (files(), property("MainPID"));
    run("systemctl reload vmexit");
    wait(&debian, || files() == before + 1);
    assert_eq!(property("MainPID"), pid);
    let report = run("vmexit report /var/lib/vmexit --since 1m --vm vmexit-vcpus");
    assert!(report.contains("vmexit-vcpus (pid "), "{report}");
    drop(vcpus.stdin.take());
    assert!(vcpus.wait().unwrap().success());

    // An upgrade, here to the same version, restarts the service. The watchdog ends a service that hangs, and systemd
    // restarts it.
    let first = property("MainPID");
    run("dpkg --install /packages/*.deb");
    assert_eq!(property("ActiveState"), "active");
    assert_ne!(property("MainPID"), first);
    set("WatchdogSec=1s\\nTimeoutAbortSec=1s");
    sleep(Duration::from_secs(2));
    assert_eq!(property("NRestarts"), "0", "it has told the watchdog nothing");
    run("systemctl kill --signal=STOP vmexit");
    wait(&debian, || property("NRestarts") != "0" && property("ActiveState") == "active");

    run("systemctl stop vmexit");
    assert_eq!(property("Result"), "success");
    run("systemctl start vmexit; dpkg --purge vmexit");
    assert_eq!(run("systemctl is-active vmexit || true"), "inactive\n");
    assert_eq!(
        run("systemctl list-unit-files --no-legend 'vmexit*'; systemctl --failed --no-legend"),
        ""
    );
    assert_eq!(run("rm /etc/default/vmexit; find /etc /var/lib -name '*vmexit*'"), "");
}
