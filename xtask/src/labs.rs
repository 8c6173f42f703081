//! Arguments of the commands that start guests and labs. The program `xtask-labs` implements them: it links the test
//! harness, for whose build no other command should wait.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};

use crate::tool::{cargo, exit_code, status};

/// Package and program with the implementation.
const PROGRAM: &str = "xtask-labs";

/// A command of `xtask-labs`.
#[derive(Debug, Subcommand)]
pub enum LabsCommand {
    /// Capture a bundled guest under KVM for ten seconds
    Demo(DemoArgs),
    /// Run a command in the lab: a stock kernel whose KVM reports exits, with vmexit installed
    Lab(LabArgs),
    /// Redraw the README's picture of vmexit top, from a guest in the lab
    Screenshot,
    /// Measure the cost of tracing: of an exit, by the labs' instruction clocks, and of the agent
    Bench(BenchArgs),
    /// Unpack a Debian package without installing it
    #[command(hide = true)]
    Unpack(UnpackArgs),
}

/// Arguments of `cargo xtask demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Use the lab even if this host's KVM reports exits
    #[arg(long)]
    pub lab: bool,

    /// Length of the capture, as vmexit takes it
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub duration: String,
}

/// Arguments of `cargo xtask lab`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo xtask lab -- uname -a
  cargo xtask lab --kernel 6.12 -- vmexit --version
  cargo xtask lab --vendor intel -- grep -m1 'vmx flags' /proc/cpuinfo
  cargo xtask lab -- 'ls /sys/kernel/tracing/events/kvm | wc -l'

The exit code is the command's; 101 means that the lab itself failed.")]
pub struct LabArgs {
    /// Virtualization extension of the lab's CPU
    #[arg(long, value_enum, default_value_t)]
    pub vendor: VendorArg,

    /// Debian's newest kernel whose version begins so, such as 6.12 [default: that of this machine's
    /// Debian release]
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,

    /// Time limit
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,

    /// Show the kernel's console too
    #[arg(long)]
    pub console: bool,

    /// Run the labs' tests on every supported kernel instead of a command
    #[arg(long, conflicts_with_all = ["command", "kernel", "vendor"])]
    pub matrix: bool,

    /// The command; a single word is a line for the shell
    #[arg(last = true, required_unless_present = "matrix")]
    pub command: Vec<String>,
}

/// Virtualization extension of a lab's CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VendorArg {
    /// SVM, in QEMU; the faster lab, with perf if this machine has it
    #[default]
    Amd,
    /// VMX, in Bochs; its clock counts instructions, so times are the same in each run
    Intel,
}

/// Arguments of `cargo xtask bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Measure this part only
    #[arg(long, value_enum)]
    pub only: Option<BenchPart>,

    /// Length of each measurement in the labs, in the lab's seconds
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub seconds: u32,

    /// Debian's newest kernel whose version begins so [default: that of this machine's Debian
    /// release]
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,
}

/// Part of the benchmark that can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// Cost of an exit with vmexit, bcc, bpftrace and ftrace; in the Intel lab
    Exits,
    /// Cost of an exit beside perf; in the AMD lab
    Perf,
    /// Run times of the eBPF programs on this machine's KVM
    Native,
    /// CPU time and memory of the agent itself, with thousands of vCPUs; on this machine's KVM
    Agent,
}

/// Arguments of `xtask-labs unpack`.
#[derive(Args, Debug)]
pub struct UnpackArgs {
    /// Name of the package
    pub package: String,
    /// Start of its version
    pub version: String,
    /// Directory to unpack into
    pub directory: std::path::PathBuf,
}

/// Runs `xtask-labs` with the arguments of this process.
///
/// # Errors
///
/// Cargo can't be run. A failed build is an exit code.
pub fn run_labs() -> Result<ExitCode> {
    let mut labs = labs_command();
    labs.args(env::args_os().skip(1));
    Ok(exit_code(status(&mut labs)?))
}

/// Unpacks the newest version of a Debian package that begins with `version`, without installing it.
///
/// # Errors
///
/// `xtask-labs` does not build, or no suite of this machine's archive has such a version.
pub(crate) fn unpack_package(package: &str, version: &str, directory: &Path) -> Result<()> {
    let output = labs_command().args(["unpack", package, version]).arg(directory).output();
    let output = output.context("cargo can't be run")?;
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.trim().lines().last().unwrap_or("it failed");
    ensure!(output.status.success(), "{}", last.trim_start_matches("xtask: "));
    Ok(())
}

/// Returns the cargo command that builds and runs `xtask-labs`, to which its arguments are added.
fn labs_command() -> Command {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--package", PROGRAM, "--"]);
    cargo
}
