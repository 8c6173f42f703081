//! `cargo xtask lab --matrix`: runs the labs' tests on every supported kernel. A row passes if every eBPF program
//! loads, attaches, counts exactly on raw and on classic tracepoints, and detaches.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use xtask::{
    build,
    setup::{self, Need},
    suite,
    tool::{cargo, status},
};

/// Test program and kernel to run it on.
struct MatrixRow {
    /// Name in the table of test programs.
    test: &'static str,
    /// Prefix of the version, of which Debian's newest kernel is used; none for the kernel of this machine's Debian
    /// release.
    kernel: Option<&'static str>,
}

const ROWS: &[MatrixRow] = &[
    MatrixRow { test: "amd", kernel: None },
    MatrixRow { test: "amd", kernel: Some("6.12") },
    MatrixRow { test: "amd", kernel: Some("6.18") },
    MatrixRow { test: "amd", kernel: Some("7") },
    MatrixRow { test: "trace", kernel: None },
    MatrixRow { test: "trace", kernel: Some("6.12") },
    MatrixRow { test: "trace", kernel: Some("6.18") },
    MatrixRow { test: "trace", kernel: Some("7") },
    MatrixRow { test: "sampler", kernel: Some("6.12") },
    MatrixRow { test: "sampler", kernel: Some("7") },
    MatrixRow { test: "linux", kernel: None },
    MatrixRow { test: "linux", kernel: Some("7") },
    MatrixRow { test: "intel", kernel: None },
    MatrixRow { test: "intel", kernel: Some("6.12") },
    MatrixRow { test: "intel", kernel: Some("7") },
];

/// Runs all rows, then prints their results.
///
/// # Errors
///
/// A need can't be set up, or cargo can't be run. A row that fails is an exit code.
pub(crate) fn matrix() -> Result<ExitCode> {
    setup::build()?;
    setup::programs(&needs())?;
    let agent = build::agent(false)?;
    let mut report = Vec::new();
    let mut failed = false;
    for row in ROWS {
        let start = Instant::now();
        let mut test = cargo();
        test.args(["test", "--package", suite::PACKAGE, "--test", row.test]).env("VMEXIT", &agent);
        if let Some(kernel) = row.kernel {
            test.env("VMEXIT_LAB_KERNEL", kernel);
        }
        let passed = status(&mut test)?.success();
        failed |= !passed;
        report.push(format!(
            "{:7} {:8} {:6} {:4} s",
            row.test,
            row.kernel.unwrap_or("default"),
            if passed { "passed" } else { "FAILED" },
            start.elapsed().as_secs()
        ));
    }
    println!("{}", report.join("\n"));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Returns the programs that the rows' tests start.
fn needs() -> Vec<Need> {
    let programs = ROWS.iter().filter_map(|row| suite::find(row.test));
    programs.flat_map(|program| program.needs.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use xtask::suite::Tier;

    use super::*;

    #[test]
    fn rows_are_test_programs_of_the_lab_tier() {
        for row in ROWS {
            assert_eq!(suite::find(row.test).map(|program| program.tier), Some(Tier::Lab));
        }
    }
}
