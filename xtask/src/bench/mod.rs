//! `cargo xtask bench`: what watching costs. Four parts, each with a table of its own: what an exit costs
//! more by the instruction clock of each lab, what programs take on this machine, and what the agent
//! itself takes.

mod agent;
mod costs;
mod labs;
mod native;
mod table;
mod ways;

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;
use vmexit_tests::guest::kvm_usable;

use crate::{
    build, setup,
    tool::{cargo, is_root, run, target},
};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One part only
    #[arg(long, value_enum)]
    only: Option<Part>,

    /// How long to measure each way of watching in the labs, in the lab's seconds
    #[arg(long, value_name = "N", default_value_t = 4)]
    seconds: u32,

    /// Newest kernel of Debian's for the labs whose version begins so [default: that of this
    /// machine's Debian release]
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What each exit costs more: vmexit, bcc, bpftrace, ftrace; in the Intel lab
    Exits,
    /// The same beside perf; in the AMD lab
    Perf,
    /// Run times of the programs on this machine's KVM
    Native,
    /// CPU time and memory of the agent itself, with thousands of vCPUs; on this machine's KVM
    Agent,
}

/// What all parts run.
struct Programs {
    agent: PathBuf,
    bench: PathBuf,
    vcpus: PathBuf,
}

pub(crate) fn bench(args: &Args) -> Result<ExitCode> {
    setup::lab()?;
    let programs = Programs::build()?;
    for &part in Part::value_variants() {
        if args.only.is_none_or(|only| only == part) {
            let table = part.measure(args, &programs)?;
            println!("\n{table}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Part {
    /// The part's table under its heading, or what could not be measured.
    fn measure(self, args: &Args, programs: &Programs) -> Result<String> {
        if matches!(self, Self::Native | Self::Agent) {
            ensure!(is_root(), "tracing needs root");
            kvm_usable()?;
        }
        match self {
            Self::Exits => labs::exits(args, programs),
            Self::Perf => labs::perf(args, programs),
            Self::Native => native::measure(programs),
            Self::Agent => agent::measure(programs),
        }
    }
}

impl Programs {
    /// Built as users get them.
    fn build() -> Result<Self> {
        let agent = build::agent(true)?;
        let mut build = cargo();
        build.args(["build", "--release", "--package", "vmexit-bench"]);
        build.args(["--package", "vmexit-tests", "--bin", "vmexit-bench", "--bin", "vmexit-vcpus"]);
        run(&mut build)?;
        let built = |name| target().join("release").join(name);
        Ok(Self { agent, bench: built("vmexit-bench"), vcpus: built("vmexit-vcpus") })
    }
    /// Runs `vmexit-bench` on this machine; what it measured. What it has to say goes to standard
    /// error.
    fn bench(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Value> {
        let mut bench = Command::new(&self.bench);
        bench.args(arguments).stderr(Stdio::inherit());
        let output = bench.output().context("vmexit-bench can't be run")?;
        ensure!(output.status.success(), "vmexit-bench failed: it said why");
        serde_json::from_slice(&output.stdout).context("vmexit-bench printed no JSON")
    }
}

/// A number by its name in what was measured.
fn number(measured: &Value, name: &str) -> Result<f64> {
    measured[name].as_f64().with_context(|| format!("no number '{name}'"))
}
