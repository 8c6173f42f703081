//! `cargo xtask lab --matrix`: the labs' tests on every kernel that matters. Every program loads,
//! attaches, counts right on raw and on classic tracepoints, and detaches, or its row says no.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

use crate::{
    build,
    tool::{cargo, status},
};

/// One row: which tests, and the newest kernel of Debian's whose version begins so; that of this
/// machine's Debian release without a version.
struct Row {
    test: &'static str,
    kernel: Option<&'static str>,
}

const ROWS: &[Row] = &[
    Row { test: "amd", kernel: None },
    Row { test: "amd", kernel: Some("6.12") },
    Row { test: "amd", kernel: Some("6.18") },
    Row { test: "amd", kernel: Some("7") },
    Row { test: "trace", kernel: None },
    Row { test: "trace", kernel: Some("6.12") },
    Row { test: "trace", kernel: Some("6.18") },
    Row { test: "trace", kernel: Some("7") },
    Row { test: "sampler", kernel: Some("6.12") },
    Row { test: "sampler", kernel: Some("7") },
    Row { test: "linux", kernel: None },
    Row { test: "linux", kernel: Some("7") },
    Row { test: "intel", kernel: None },
    Row { test: "intel", kernel: Some("6.12") },
    Row { test: "intel", kernel: Some("7") },
];

/// Runs all rows, then reports them together.
pub(crate) fn matrix() -> Result<ExitCode> {
    let agent = build::agent(false)?;
    let mut report = Vec::new();
    let mut failed = false;
    for row in ROWS {
        let began = Instant::now();
        let mut test = cargo();
        test.args(["test", "--package", "vmexit-tests", "--test", row.test]).env("VMEXIT", &agent);
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
            began.elapsed().as_secs()
        ));
    }
    println!("{}", report.join("\n"));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
