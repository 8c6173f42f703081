//! How long the programs run on this machine itself, by the kernel's own statistics.

use std::{ffi::OsString, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vmexit_tests::guest::{BareGuest, Qemu};

use super::{
    Programs, number,
    table::{render, whole},
    ways::{self, Way},
};

/// How long the runs are counted.
const SECONDS: u32 = 5;

/// Runs that an average must be of. A program that ran less has nothing to do with exits.
const FEWEST_RUNS: f64 = 1_000.0;

/// From one round of the guest's to the next, at most.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure(programs: &Programs) -> Result<String> {
    let guest = BareGuest { msr_read: 50, hpet_read: 25, ..BareGuest::demo() }.without_hlt();
    let mut running = Qemu::native("bench").start(&guest)?;
    let mut rows = Vec::new();
    for (way, programs_at_least) in ways::by_run_time() {
        eprintln!("bench: {}", way.name);
        running.wait_dots(running.dots() + 1, PATIENCE)?;
        let measured = programs.bench(&arguments(&way, programs))?;
        let ran = rows_of(&way, programs_at_least, &measured);
        rows.extend(ran.with_context(|| format!("{}: {measured}", way.name))?);
    }
    let columns = ["", "program", "runs/s", "ns per run"];
    Ok(render("Run times of the programs (this machine's KVM)", &columns, 2, &rows))
}

/// Of `vmexit-bench`: to count runs and measure nothing else.
fn arguments(way: &Way, programs: &Programs) -> Vec<OsString> {
    let seconds = SECONDS.to_string();
    let mut arguments = ["--seconds", "0", "--check", &seconds].map(OsString::from).to_vec();
    arguments.extend(way.arguments.split(' ').map(|word| match word {
        "vmexit" => programs.agent.clone().into_os_string(),
        word => word.into(),
    }));
    arguments
}

/// A row for each program that ran; an error where they are fewer than so many.
fn rows_of(way: &Way, at_least: usize, measured: &Value) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for (program, measured) in measured["check"]["runs"].as_object().context("no programs")? {
        let (runs, ns) = (number(measured, "runs")?, number(measured, "ns")?);
        if runs >= FEWEST_RUNS {
            let (per_second, each) = (whole(runs / f64::from(SECONDS)), whole(ns / runs));
            rows.push(vec![way.name.clone(), program.clone(), per_second, each]);
        }
    }
    ensure!(rows.len() >= at_least, "only {} of its programs ran, not {at_least}", rows.len());
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmexit() -> Way {
        let mut ways = ways::by_run_time().into_iter().map(|(way, _)| way);
        ways.find(|way| way.name == "vmexit").unwrap()
    }

    #[test]
    fn the_agent_is_the_one_that_was_built() {
        let programs = Programs { agent: "/x/vmexit".into(), bench: "".into(), vcpus: "".into() };
        let arguments = arguments(&vmexit(), &programs);
        let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert!(words.join(" ").ends_with(" command -- /x/vmexit capture -q -d 1h -o /dev/null"));
    }

    #[test]
    fn averages_are_of_many_runs() {
        let rows = |runs| {
            let runs = json!({"kvm_pio": {"runs": runs, "ns": 590_000}, "x": {"runs": 1, "ns": 1}});
            rows_of(&vmexit(), 1, &json!({"check": {"runs": runs}}))
        };
        assert_eq!(rows(5_000).unwrap(), [["vmexit", "kvm_pio", "1,000", "118"]]);
        assert!(rows(999).is_err());
        assert!(rows_of(&vmexit(), 1, &json!({"check": {"runs": {}}})).is_err());
    }
}
