//! `cargo xtask bench`: measures the cost of tracing, in four parts with a table each: the cost added to an exit, by
//! the instruction clocks of both labs; run times of the eBPF programs on this machine; CPU time and memory of the
//! agent.

mod agent;
mod costs;
mod labs;
mod methods;
mod native;
mod table;

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;
use vmexit_tests::guest::kvm_usable;
use xtask::{
    build,
    labs::{BenchArgs, BenchPart},
    setup::{self, Need},
    tool::{cargo, is_root, run, target},
};

/// Paths of the programs that the parts run.
struct BenchPrograms {
    agent: PathBuf,
    bench: PathBuf,
    vcpus: PathBuf,
}

/// Measures the selected parts and prints their tables.
///
/// # Errors
///
/// A need can't be set up, or a measurement fails or is implausible.
pub(crate) fn bench(args: &BenchArgs) -> Result<ExitCode> {
    let is_wanted = |part: &&BenchPart| args.only.is_none_or(|only| only == **part);
    let parts: Vec<_> = BenchPart::value_variants().iter().filter(is_wanted).copied().collect();
    setup::build()?;
    setup::programs(&parts.iter().flat_map(|part| needs(*part).to_vec()).collect::<Vec<_>>())?;
    let programs = BenchPrograms::build()?;
    for part in parts {
        println!("\n{}", measure(part, args, &programs)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the programs that a part needs.
const fn needs(part: BenchPart) -> &'static [Need] {
    match part {
        BenchPart::Exits => &[Need::Qemu, Need::Modules],
        BenchPart::Perf => &[Need::Qemu, Need::Modules, Need::Perf],
        BenchPart::Native => &[Need::Qemu],
        BenchPart::Agent => &[Need::Tmux],
    }
}

/// Measures a part and returns its table.
fn measure(part: BenchPart, args: &BenchArgs, programs: &BenchPrograms) -> Result<String> {
    if matches!(part, BenchPart::Native | BenchPart::Agent) {
        ensure!(is_root(), "tracing needs root");
        kvm_usable()?;
        setup::tracefs()?;
    }
    match part {
        BenchPart::Exits => labs::exits(args, programs),
        BenchPart::Perf => labs::perf(args, programs),
        BenchPart::Native => native::measure(programs),
        BenchPart::Agent => agent::measure(programs),
    }
}

impl BenchPrograms {
    /// Builds the programs with the release profile.
    fn build() -> Result<Self> {
        let agent = build::agent(true)?;
        let mut build = cargo();
        build.args(["build", "--release", "--package", "vmexit-bench"]);
        build.args(["--package", "vmexit-tests", "--bin", "vmexit-bench", "--bin", "vmexit-vcpus"]);
        run(&mut build)?;
        let built = |name| target().join("release").join(name);
        Ok(Self { agent, bench: built("vmexit-bench"), vcpus: built("vmexit-vcpus") })
    }

    /// Runs `vmexit-bench` on this machine and returns its measurements. Its messages go to standard error.
    fn bench(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Value> {
        let mut bench = Command::new(&self.bench);
        bench.args(arguments).stderr(Stdio::inherit());
        let output = bench.output().context("vmexit-bench can't be run")?;
        ensure!(output.status.success(), "vmexit-bench failed: see its message above");
        serde_json::from_slice(&output.stdout).context("vmexit-bench printed no JSON")
    }
}

/// Returns a measured number by name.
fn number(measured: &Value, name: &str) -> Result<f64> {
    measured[name].as_f64().with_context(|| format!("no number '{name}'"))
}
