//! Run times of the eBPF programs on this machine, by the kernel's statistics.

use std::{ffi::OsString, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vmexit_tests::guest::{BareGuest, Qemu};

use super::{
    BenchPrograms,
    methods::{self, TracingMethod},
    number,
    table::{render, whole},
};

/// Length of a measurement, seconds.
const SECONDS: u32 = 5;

/// Smallest number of runs for an average. A program with fewer does not run on exits.
const FEWEST_RUNS: f64 = 1_000.0;

/// Time limit from one round of the guest to the next.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the table of run times.
///
/// # Errors
///
/// The guest or `vmexit-bench` fails, or too few programs ran.
pub(super) fn measure(programs: &BenchPrograms) -> Result<String> {
    let guest = BareGuest { msr_read: 50, hpet_read: 25, ..BareGuest::demo() }.without_hlt();
    let mut running = Qemu::native("bench").start(&guest)?;
    let mut rows = Vec::new();
    for (method, programs_at_least) in methods::by_run_time() {
        eprintln!("bench: {}", method.name);
        running.wait_dots(running.dots() + 1, ROUND_TIMEOUT)?;
        let measured = programs.bench(&arguments(&method, programs))?;
        let ran = rows_of(&method, programs_at_least, &measured);
        rows.extend(ran.with_context(|| format!("{}: {measured}", method.name))?);
    }
    let columns = ["", "program", "runs/s", "ns per run"];
    Ok(render("Run times of the programs (this machine's KVM)", &columns, 2, &rows))
}

/// Returns the arguments with which `vmexit-bench` only counts runs.
fn arguments(method: &TracingMethod, programs: &BenchPrograms) -> Vec<OsString> {
    let seconds = SECONDS.to_string();
    let mut arguments = ["--seconds", "0", "--check", &seconds].map(OsString::from).to_vec();
    arguments.extend(method.arguments.split(' ').map(|word| match word {
        "vmexit" => programs.agent.clone().into_os_string(),
        word => word.into(),
    }));
    arguments
}

/// Returns a row for each program that ran; an error if fewer than `at_least` did.
fn rows_of(method: &TracingMethod, at_least: usize, measured: &Value) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for (program, measured) in measured["check"]["runs"].as_object().context("no programs")? {
        let (runs, ns) = (number(measured, "runs")?, number(measured, "ns")?);
        if runs >= FEWEST_RUNS {
            let (per_second, each) = (whole(runs / f64::from(SECONDS)), whole(ns / runs));
            rows.push(vec![method.name.clone(), program.clone(), per_second, each]);
        }
    }
    ensure!(rows.len() >= at_least, "only {} of its programs ran, not {at_least}", rows.len());
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmexit() -> TracingMethod {
        let mut methods = methods::by_run_time().into_iter().map(|(method, _)| method);
        methods.find(|method| method.name == "vmexit").unwrap()
    }

    #[test]
    fn arguments_have_path_of_built_agent() {
        let programs =
            BenchPrograms { agent: "/x/vmexit".into(), bench: "".into(), vcpus: "".into() };
        let arguments = arguments(&vmexit(), &programs);
        let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert!(words.join(" ").ends_with(" command -- /x/vmexit capture -q -d 1h -o /dev/null"));
    }

    #[test]
    fn rows_are_of_programs_with_many_runs() {
        let rows = |runs| {
            let runs = json!({"kvm_pio": {"runs": runs, "ns": 590_000}, "x": {"runs": 1, "ns": 1}});
            rows_of(&vmexit(), 1, &json!({"check": {"runs": runs}}))
        };
        assert_eq!(rows(5_000).unwrap(), [["vmexit", "kvm_pio", "1,000", "118"]]);
        assert!(rows(999).is_err());
        assert!(rows_of(&vmexit(), 1, &json!({"check": {"runs": {}}})).is_err());
    }
}
