//! `cargo xtask test`: the tests of a tier or of a name, or all of them. Only what these tests need is set up and
//! built. A test that needs root or KVM fails without them; none is skipped.

mod plan;
mod targets;

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use xtask::{
    build, setup,
    suite::{self, TEST_PROGRAMS, Tier},
    tool::{cargo, exit_code, is_root, line, status},
};

use self::plan::{CargoTest, TestRequest, plan};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
#[command(
    override_usage = "cargo xtask test [unit|native|lab] [NAME] [-- ARGS]",
    after_help = "\
Examples:
  cargo xtask test unit                                  # no root, no KVM
  cargo xtask test unit count_and_rate                   # one unit test: builds nothing else
  cargo xtask test native no_vm_is -- --nocapture        # one test on this machine's KVM, as root
  cargo xtask test lab perf_agrees -- --nocapture        # one test in the lab
  cargo xtask test                                       # everything, as root: what CI runs"
)]
pub(crate) struct TestArgs {
    /// unit: no root, no KVM; native: root, KVM and QEMU; lab: the emulated labs [default: all, and the
    /// lab's tests again on the newest kernel]
    tier: Option<String>,
    /// Part of the tests' paths, as cargo test takes it [default: all tests of the tier]
    name: Option<String>,
    /// Arguments for the test programs, such as --nocapture
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Version of the newest kernel to test on, as `cargo xtask lab --kernel` takes it.
const NEWEST: &str = "7";

pub(crate) fn test(args: &TestArgs) -> Result<ExitCode> {
    let request = TestRequest::of(args.tier.as_deref(), args.name.as_deref(), &args.args)?;
    let plan = plan(&request, &targets::all()?)?;
    if request.is_everything() {
        setup::all()?;
    } else {
        set_up(&plan)?;
    }
    // The end-to-end tests run this very program.
    let is_end_to_end = plan.iter().any(|run| run.tiers.iter().any(|tier| *tier != Tier::Unit));
    let agent = if is_end_to_end { Some(build::agent(false)?) } else { None };
    let cargo_test = |run: &CargoTest| {
        let mut test = cargo();
        test.arg("test").args(run.arguments(&request));
        test.envs(agent.iter().map(|agent| ("VMEXIT", agent)));
        test
    };

    if request.name.is_some() {
        return named(plan.iter().map(cargo_test));
    }
    let mut failed = None;
    for run in &plan {
        let status = status(&mut cargo_test(run))?;
        failed = failed.or((!status.success()).then_some(status));
    }
    if let Some(failed) = failed {
        return Ok(exit_code(failed));
    }
    if matches!(request.tier, None | Some(Tier::Lab)) {
        // The other end of the range; `cargo xtask lab --matrix` has all between.
        eprintln!("test: the lab's tests again, on the newest kernel");
        let mut newest = cargo_test(&on_newest());
        return Ok(exit_code(status(newest.env("VMEXIT_LAB_KERNEL", NEWEST))?));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets up what the chosen tests need, and nothing else.
fn set_up(plan: &[CargoTest]) -> Result<()> {
    if plan.iter().any(|run| run.tiers.contains(&Tier::Native)) {
        ensure!(
            is_root(),
            "native tests need root: sudo env HOME=\"$HOME\" PATH=\"$PATH\" cargo xtask test native"
        );
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        kvm.context("native tests need KVM, and /dev/kvm can't be opened")?;
        setup::tracefs()?;
    }
    if plan.iter().any(|run| run.builds_ebpf) {
        setup::build()?;
    }
    let needs: Vec<_> = plan.iter().flat_map(|run| run.needs.iter().copied()).collect();
    setup::programs(&needs)
}

/// The lab's tests that are run again on the newest kernel.
fn on_newest() -> CargoTest {
    let programs = TEST_PROGRAMS.iter().filter(|program| program.on_newest);
    CargoTest {
        packages: vec![suite::PACKAGE.to_owned()],
        selection: programs.flat_map(|program| ["--test".into(), program.name.into()]).collect(),
        ..CargoTest::default()
    }
}

/// Runs tests of a name. That none was run is a failure: what was meant is not what was tested.
fn named(runs: impl Iterator<Item = Command>) -> Result<ExitCode> {
    let (mut ran, mut failed) = (0, None);
    for mut run in runs {
        eprintln!("test: {}", line(&run));
        let (status, tests) = counted(&mut run)?;
        ran += tests;
        failed = failed.or((!status.success()).then_some(status));
    }
    if let Some(failed) = failed {
        return Ok(exit_code(failed));
    }
    ensure!(
        ran > 0,
        "no test was run: what has the name is ignored, or filtered out by the arguments"
    );
    Ok(ExitCode::SUCCESS)
}

/// Runs `cargo test`, whose output is passed through; its status, and how many tests were run.
fn counted(test: &mut Command) -> Result<(ExitStatus, u64)> {
    let mut child = test.stdout(Stdio::piped()).spawn().context("cargo can't be run")?;
    let mut output = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let (mut bytes, mut ran) = (Vec::new(), 0);
    while output.read_until(b'\n', &mut bytes)? > 0 {
        // The reader of our own output may be gone.
        let _ = io::stdout().write_all(&bytes);
        ran += tests_run(&String::from_utf8_lossy(&bytes)).unwrap_or_default();
        bytes.clear();
    }
    Ok((child.wait().context("wait for cargo")?, ran))
}

/// Tests that passed or failed by libtest's last line, such as
/// `test result: ok. 1 passed; 0 failed; 2 ignored; …`.
fn tests_run(line: &str) -> Option<u64> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let mut count = |what: &str| counts.next()?.strip_suffix(what)?.parse::<u64>().ok();
    Some(count(" passed")? + count(" failed")?)
}

/// Whether the test programs should colour what they print: they can't see the terminal themselves.
fn is_coloured() -> bool {
    io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_ran_are_counted_and_ignored_ones_are_not() {
        let line =
            "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out\n";
        assert_eq!(tests_run(line), Some(4));
        // As libtest colours it.
        let line = "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 0 passed; 0 failed; 1 ignored; 0 measured\n";
        assert_eq!(tests_run(line), Some(0));
        assert_eq!(tests_run("running 3 tests\n"), None);
    }

    #[test]
    fn the_newest_kernel_is_for_tests_of_the_lab() {
        let programs = TEST_PROGRAMS.iter().filter(|program| program.on_newest);
        assert!(programs.clone().all(|program| program.tier == Tier::Lab));
        assert_eq!(
            on_newest().selection,
            ["--test", "amd", "--test", "top_lab", "--test", "trace"]
        );
        assert_eq!(programs.count(), 3);
    }
}
