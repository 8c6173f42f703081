//! `cargo xtask setup`: prepares a Debian or Ubuntu machine that has rustup. Each step first checks whether its
//! work is done; where it can't do it, the error names the command that a person must run.

mod rust_src;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::tool::{self, cargo, has, is_root, run, stdout};

/// Later versions need a system LLVM; this one brings rustc's own.
const BPF_LINKER: &str = "0.10.3";

/// Group of programs that commands and test programs start. What every Debian has is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Emulator and hypervisor of all guests, and of the AMD lab.
    Qemu,
    /// Kernel modules' compression, in the labs.
    Modules,
    /// perf, beside which counts are compared.
    Perf,
    /// Terminal of the live view.
    Tmux,
    /// Daemon, driver and client of libvirt.
    Libvirt,
    /// Browser and reader of the pages that reports can be.
    Browser,
    /// Tools that make the Debian package.
    Packaging,
    /// A Debian of its own, with and without systemd running, to install the packages in.
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

    /// Programs of the group, each with Debian's package of it.
    const fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Qemu => &[("qemu-system-x86_64", "qemu-system-x86")],
            Self::Modules => &[("xz", "xz-utils")],
            Self::Perf => &[("perf", "linux-perf")],
            Self::Tmux => &[("tmux", "tmux")],
            // Not libvirt-daemon-system, which would start it for the whole machine.
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
/// Neither rustup, Debian nor an archive has Rust's sources, or bpf-linker can't be installed.
pub fn build() -> Result<()> {
    rust_src::ensure().context("the sources of Rust's core library are needed to build for BPF")?;
    bpf_linker()
}

/// Prepares everything that any command or test needs.
///
/// # Errors
///
/// As [`build`], [`programs`] and [`tracefs`].
pub fn all() -> Result<()> {
    build()?;
    programs(&Need::ALL)?;
    tracefs()
}

/// Installs bpf-linker, if this version is not there.
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

/// Installs the Debian packages of programs that are missing.
///
/// # Errors
///
/// Programs are missing and this is not root, there is no apt, or apt fails.
pub fn programs(needs: &[Need]) -> Result<()> {
    let missing = missing(needs, has);
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
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}\nrun: {by_hand}", error.trim());
    }
    Ok(())
}

/// Debian's packages of the programs that are missing, each once, in the groups' order.
fn missing(needs: &[Need], has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let needs: BTreeSet<Need> = needs.iter().copied().collect();
    let programs = needs.into_iter().flat_map(Need::programs);
    programs.filter(|(program, _)| !has(program)).map(|&(_, package)| package).collect()
}

/// Mounts tracefs where a machine with KVM lacks it: containers and minimal systems do; systemd mounts it
/// everywhere else.
///
/// # Errors
///
/// This is root, and it can't be mounted.
pub fn tracefs() -> Result<()> {
    let events = format!("{TRACEFS}/events");
    if fs::metadata(events).is_ok() || !Path::new("/dev/kvm").exists() {
        return Ok(());
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "tracefs", "tracefs", TRACEFS]);
    if !is_root() {
        // Most systems show it to root only; the lab does without.
        return Ok(());
    }
    eprintln!("setup: mounting tracefs");
    run(&mut mount).with_context(|| format!("run: sudo {}", tool::line(&mount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_programs_of_wanted_groups_are_installed() {
        let has = |program: &str| program == "virsh";
        assert_eq!(missing(&[Need::Qemu], has), ["qemu-system-x86"]);
        let libvirt = ["libvirt-daemon", "libvirt-daemon-driver-qemu"];
        assert_eq!(missing(&[Need::Libvirt, Need::Libvirt], has), libvirt);
        assert!(missing(&[], has).is_empty());
        assert!(missing(&Need::ALL, |_| true).is_empty());
    }

    #[test]
    fn no_program_is_in_two_groups() {
        let all = Need::ALL.into_iter().flat_map(Need::programs);
        let names: BTreeSet<&str> = all.clone().map(|(program, _)| *program).collect();
        assert_eq!(names.len(), all.count());
    }
}
