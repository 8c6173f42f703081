//! `cargo xtask setup`: prepares a Debian or Ubuntu machine that has rustup. A step does nothing if its result is
//! there; if it fails, the error has the command to run by hand.

mod rust_src;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::tool::{self, cargo, has, is_root, run, stdout};

/// Version of bpf-linker. Later ones need the system's LLVM; this one has rustc's.
const BPF_LINKER: &str = "0.10.3";

/// Group of programs that commands and tests start. Programs of a minimal Debian are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// QEMU, for all guests and the AMD lab.
    Qemu,
    /// Decompressor of kernel modules, for the labs.
    Modules,
    /// perf, for comparison of counts.
    Perf,
    /// tmux, a terminal for the live view.
    Tmux,
    /// libvirt's daemon, QEMU driver and client.
    Libvirt,
    /// Chromium and a PDF reader, for HTML reports.
    Browser,
    /// debhelper, for the Debian package.
    Packaging,
    /// Tools to create and boot a Debian, in which the packages are installed.
    OtherDebian,
}

impl Need {
    /// All groups.
    pub const ALL: [Self; 8] = [
        Self::Qemu,
        Self::Modules,
        Self::Perf,
        Self::Tmux,
        Self::Libvirt,
        Self::Browser,
        Self::Packaging,
        Self::OtherDebian,
    ];

    /// Returns the programs of the group, each with its Debian package.
    const fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Qemu => &[("qemu-system-x86_64", "qemu-system-x86")],
            Self::Modules => &[("xz", "xz-utils")],
            Self::Perf => &[("perf", "linux-perf")],
            Self::Tmux => &[("tmux", "tmux")],
            // libvirt-daemon-system would start the daemon for the whole machine.
            Self::Libvirt => &[
                ("libvirtd", "libvirt-daemon"),
                ("virt-qemu-run", "libvirt-daemon-driver-qemu"),
                ("virsh", "libvirt-clients"),
            ],
            Self::Browser => &[("chromium", "chromium"), ("pdftotext", "poppler-utils")],
            Self::Packaging => &[("dh", "debhelper")],
            Self::OtherDebian => {
                &[("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")]
            }
        }
    }
}

/// The kernel's tracing file system.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Prepares the build of the agent.
///
/// # Errors
///
/// Rust's sources are neither in rustup, Debian nor an archive, or bpf-linker can't be installed.
pub fn build() -> Result<()> {
    rust_src::ensure().context("the sources of Rust's core library are needed to build for BPF")?;
    bpf_linker()
}

/// Prepares the needs of all commands and tests.
///
/// # Errors
///
/// [`build`], [`programs`] or [`tracefs`] fails.
pub fn all() -> Result<()> {
    build()?;
    programs(&Need::ALL)?;
    tracefs()
}

/// Installs bpf-linker, unless this version is installed.
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

/// Installs the Debian packages of missing programs.
///
/// # Errors
///
/// Programs are missing, and this is not root, or apt is missing or fails.
pub fn programs(needs: &[Need]) -> Result<()> {
    let missing = missing_packages(needs, has);
    if missing.is_empty() {
        return Ok(());
    }
    let manual = format!("sudo apt-get install --no-install-recommends {}", missing.join(" "));
    if !has("apt-get") {
        bail!("missing programs of Debian's packages {}: install them", missing.join(", "));
    }
    if !is_root() {
        bail!("missing Debian packages; run: {manual}");
    }
    eprintln!("setup: installing {}", missing.join(", "));
    let apt_get = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-y", "-o", "Dpkg::Use-Pty=0"]).args(args);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    run(&mut apt_get(&["update"])).with_context(|| format!("run: {manual}"))?;
    let mut install = apt_get(&["install", "--no-install-recommends"]);
    let output = install.args(&missing).output().context("apt-get can't be run")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}\nrun: {manual}", error.trim());
    }
    Ok(())
}

/// Returns the Debian packages of missing programs, each once, in the order of the groups.
fn missing_packages(needs: &[Need], has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let needs: BTreeSet<Need> = needs.iter().copied().collect();
    let programs = needs.into_iter().flat_map(Need::programs);
    programs.filter(|(program, _)| !has(program)).map(|&(_, package)| package).collect()
}

/// Mounts tracefs on a machine with KVM that lacks it, such as a container. systemd mounts it on other machines.
///
/// # Errors
///
/// This is root, and mounting fails.
pub fn tracefs() -> Result<()> {
    let events = format!("{TRACEFS}/events");
    if fs::metadata(events).is_ok() || !Path::new("/dev/kvm").exists() {
        return Ok(());
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "tracefs", "tracefs", TRACEFS]);
    if !is_root() {
        // On most systems root alone can read it. The lab does not need it.
        return Ok(());
    }
    eprintln!("setup: mounting tracefs");
    run(&mut mount).with_context(|| format!("run: sudo {}", tool::line(&mount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_of_missing_programs_only() {
        let has = |program: &str| program == "virsh";
        assert_eq!(missing_packages(&[Need::Qemu], has), ["qemu-system-x86"]);
        let libvirt = ["libvirt-daemon", "libvirt-daemon-driver-qemu"];
        assert_eq!(missing_packages(&[Need::Libvirt, Need::Libvirt], has), libvirt);
        assert!(missing_packages(&[], has).is_empty());
        assert!(missing_packages(&Need::ALL, |_| true).is_empty());
    }

    #[test]
    fn need_programs_are_in_one_group_each() {
        let all = Need::ALL.into_iter().flat_map(Need::programs);
        let names: BTreeSet<&str> = all.clone().map(|(program, _)| *program).collect();
        assert_eq!(names.len(), all.count());
    }
}
