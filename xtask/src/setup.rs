//! `cargo xtask setup`: makes a fresh Debian or Ubuntu machine with rustup ready. Each step first
//! looks whether its work is done; where it can't do it, it names the command that a person must
//! run.

mod rust_src;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::tool::{self, cargo, has, is_root, run, stdout};

/// Later versions need a system LLVM; this one brings rustc's own.
const BPF_LINKER: &str = "0.10.3";

/// Programs that the demo and most tests start, and Debian's packages of them.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("perf", "linux-perf"),
    ("xz", "xz-utils"),
    ("tmux", "tmux"),
    // Not Debian's libvirt-daemon-system, which would start it for the whole machine.
    ("libvirtd", "libvirt-daemon"),
    ("virt-qemu-run", "libvirt-daemon-driver-qemu"),
    ("virsh", "libvirt-clients"),
];

/// The same of what the tests of reports as pages start.
const BROWSER: &[(&str, &str)] = &[("chromium", "chromium"), ("pdftotext", "poppler-utils")];

/// The same of what makes packages.
const PACKAGING: &[(&str, &str)] = &[("dh", "debhelper")];

/// The same of what the test of the packages starts: a Debian of its own, with and without systemd running.
const OTHER_DEBIAN: &[(&str, &str)] =
    &[("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")];

const TRACEFS: &str = "/sys/kernel/tracing";

/// What building the agent needs.
pub(crate) fn build() -> Result<()> {
    rust_src::ensure().context("the sources of Rust's core library are needed to build for BPF")?;
    bpf_linker()
}

/// What making packages needs.
pub(crate) fn dist() -> Result<()> {
    build()?;
    programs(PACKAGING)
}

/// What the demo needs, and the lab.
pub(crate) fn lab() -> Result<()> {
    build()?;
    programs(PROGRAMS)?;
    tracefs()
}

/// What all tests need.
pub(crate) fn all() -> Result<()> {
    lab()?;
    programs(BROWSER)?;
    programs(PACKAGING)?;
    programs(OTHER_DEBIAN)
}

fn bpf_linker() -> Result<()> {
    let installed = stdout(Command::new("bpf-linker").arg("--version"));
    if installed.is_some_and(|version| version.trim().ends_with(BPF_LINKER)) {
        return Ok(());
    }
    eprintln!("setup: installing bpf-linker {BPF_LINKER} (a minute or two)");
    let mut install = cargo();
    install.args(["install", "--locked", "--force", "--quiet"]);
    install.arg(format!("bpf-linker@{BPF_LINKER}"));
    run(&mut install)
        .with_context(|| format!("run: cargo install --locked bpf-linker@{BPF_LINKER}"))
}

fn programs(programs: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !has(program)).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get install --no-install-recommends {}", missing.join(" "));
    if !has("apt-get") {
        bail!("missing programs of Debian's packages {}: install them", missing.join(", "));
    }
    if !is_root() {
        bail!("missing Debian packages; run: {by_hand}");
    }
    eprintln!("setup: installing {}", missing.join(", "));
    let quiet = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-y", "-o", "Dpkg::Use-Pty=0"]).args(args);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    run(&mut quiet(&["update"])).with_context(|| format!("run: {by_hand}"))?;
    let mut install = quiet(&["install", "--no-install-recommends"]);
    let output = install.args(&missing).output().context("apt-get can't be run")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}\nrun: {by_hand}", said.trim());
    }
    Ok(())
}

/// Containers and minimal systems come without; systemd mounts it everywhere else.
fn tracefs() -> Result<()> {
    let events = format!("{TRACEFS}/events");
    if std::fs::metadata(events).is_ok() || !std::path::Path::new("/dev/kvm").exists() {
        return Ok(());
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "tracefs", "tracefs", TRACEFS]);
    if !is_root() {
        // Seen by root only on most systems; the lab does without.
        return Ok(());
    }
    eprintln!("setup: mounting tracefs");
    run(&mut mount).with_context(|| format!("run: sudo {}", tool::line(&mount)))
}
