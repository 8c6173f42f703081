//! `cargo xtask test`: runs the tests of a tier or of a name, or all of them. It sets up and builds only what these
//! tests need. A test that needs root or KVM fails without them; none is skipped.

mod plan;
mod sources;
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
  cargo xtask test unit                                     # no root, no KVM
  cargo xtask test unit findings_page                       # one unit test; builds its package only
  cargo xtask test native capture_without_vm -- --nocapture # one test on this KVM, as root
  cargo xtask test lab perf_kvm_stat_agrees -- --nocapture  # one test in the lab
  cargo xtask test                                          # all tests, as root: what CI runs"
)]
pub(crate) struct TestArgs {
    /// unit: no root, no KVM; native: root, KVM and QEMU; lab: the emulated labs [default: all, and a
    /// part of the lab's tests again on the newest kernel]
    tier: Option<String>,
    /// Part of the tests' paths, as cargo test takes it [default: all tests of the tier]
    name: Option<String>,
    /// Arguments for the test programs, such as --nocapture
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Version of the newest kernel to test on, as `cargo xtask lab --kernel` takes it.
const NEWEST: &str = "7";

/// Runs the tests of the arguments.
///
/// # Errors
///
/// No test has the name, a need of the tests is missing, or cargo can't be run. Tests that fail are an exit code.
pub(crate) fn test(args: &TestArgs) -> Result<ExitCode> {
    let request = TestRequest::new(args.tier.as_deref(), args.name.as_deref(), &args.args)?;
    let plan = plan(&request, &targets::test_targets()?)?;
    if request.is_everything() {
        setup::all()?;
    } else {
        set_up(&plan)?;
    }
    // The end-to-end tests start the agent.
    let is_end_to_end = plan.iter().any(|run| run.tiers.iter().any(|tier| *tier != Tier::Unit));
    let agent = if is_end_to_end { Some(build::agent(false)?) } else { None };
    let cargo_test = |run: &CargoTest| {
        let mut test = cargo();
        test.arg("test").args(run.arguments(&request, io::stdout().is_terminal()));
        test.envs(agent.iter().map(|agent| ("VMEXIT", agent)));
        test
    };

    if request.name.is_some() {
        return run_named(plan.iter().map(cargo_test));
    }
    let mut failed = None;
    for run in &plan {
        let mut test = cargo_test(run);
        eprintln!("test: {}", line(&test));
        let status = status(&mut test)?;
        failed = failed.or((!status.success()).then_some(status));
    }
    if let Some(failed) = failed {
        return Ok(exit_code(failed));
    }
    if matches!(request.tier, None | Some(Tier::Lab)) {
        // The other end of the range; `cargo xtask lab --matrix` has the kernels between.
        eprintln!("test: the lab's tests again, on the newest kernel");
        let mut newest = cargo_test(&newest_kernel_tests());
        return Ok(exit_code(status(newest.env("VMEXIT_LAB_KERNEL", NEWEST))?));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets up the needs of the planned tests.
fn set_up(plan: &[CargoTest]) -> Result<()> {
    if plan.iter().any(|run| run.tiers.contains(&Tier::Native)) {
        ensure!(
            is_root(),
            "native tests need root: sudo -E env \"PATH=$PATH\" cargo xtask test native"
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

/// Returns the run of the lab's tests that are repeated on the newest kernel.
fn newest_kernel_tests() -> CargoTest {
    let programs = TEST_PROGRAMS.iter().filter(|program| program.on_newest);
    CargoTest {
        packages: vec![suite::PACKAGE.to_owned()],
        selection: programs.flat_map(|program| ["--test".into(), program.name.into()]).collect(),
        ..CargoTest::default()
    }
}

/// Runs tests that were named, and fails if none ran: the name was then mistaken.
fn run_named(runs: impl Iterator<Item = Command>) -> Result<ExitCode> {
    let (mut count, mut failed) = (0, None);
    for mut run in runs {
        eprintln!("test: {}", line(&run));
        let (status, tests) = run_and_count(&mut run)?;
        count += tests;
        failed = failed.or((!status.success()).then_some(status));
    }
    if let Some(failed) = failed {
        return Ok(exit_code(failed));
    }
    ensure!(
        count > 0,
        "no test ran: the tests of this name are ignored, or filtered out by the arguments"
    );
    Ok(ExitCode::SUCCESS)
}

/// Runs `cargo test` and passes its output through; returns its status and the number of tests that ran.
fn run_and_count(test: &mut Command) -> Result<(ExitStatus, u64)> {
    let mut child = test.stdout(Stdio::piped()).spawn().context("cargo can't be run")?;
    let mut output = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let (mut bytes, mut count) = (Vec::new(), 0);
    while output.read_until(b'\n', &mut bytes)? > 0 {
        // The reader of standard output may have closed it.
        let _ = io::stdout().write_all(&bytes);
        count += parse_test_result(&String::from_utf8_lossy(&bytes)).unwrap_or_default();
        bytes.clear();
    }
    Ok((child.wait().context("wait for cargo")?, count))
}

/// Returns the number of tests that passed or failed, from libtest's last line, such as
/// `test result: ok. 1 passed; 0 failed; 2 ignored; …`.
fn parse_test_result(line: &str) -> Option<u64> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let mut count = |suffix: &str| counts.next()?.strip_suffix(suffix)?.parse::<u64>().ok();
    Some(count(" passed")? + count(" failed")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_test_result_counts_tests_that_ran_and_not_ignored_ones() {
        let line =
            "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out\n";
        assert_eq!(parse_test_result(line), Some(4));
        // With libtest's colours.
        let line = "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 0 passed; 0 failed; 1 ignored; 0 measured\n";
        assert_eq!(parse_test_result(line), Some(0));
        assert_eq!(parse_test_result("running 3 tests\n"), None);
    }

    #[test]
    fn newest_kernel_tests_are_of_the_lab_tier() {
        let programs = TEST_PROGRAMS.iter().filter(|program| program.on_newest);
        assert!(programs.clone().all(|program| program.tier == Tier::Lab));
        assert_eq!(
            newest_kernel_tests().selection,
            ["--test", "amd", "--test", "top_lab", "--test", "trace"]
        );
        assert_eq!(programs.count(), 3);
    }
}
