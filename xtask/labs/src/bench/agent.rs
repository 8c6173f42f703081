//! CPU time and memory of the agent's process, polled each second.

use std::{fs, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vmexit_tests::{
    guest::vcpus::{PORTS, Vcpus},
    tmux::Tmux,
};

use super::{BenchPrograms, number, table};

/// Numbers of busy vCPUs to measure with.
const VCPUS: [u32; 2] = [10, 2_000];

/// Smallest share of all ports that must be accessed in the average second.
const BUSY: f64 = 0.95;

/// Length of a measurement, seconds.
const SECONDS: u32 = 20;

/// Time from the live view's start to its measurement.
const WARM_UP: Duration = Duration::from_secs(5);

/// Stages of a poll.
const STAGES: [&str; 5] = ["read", "subtract", "build", "render", "free"];

/// Returns the tables of the agent and of the live view at each number of vCPUs. Made-up times stand for a host whose
/// KVM reports exits.
///
/// # Errors
///
/// A program fails, or the vCPUs were not busy all the time.
pub(super) fn measure(programs: &BenchPrograms) -> Result<String> {
    let (mut rows, mut tops) = (Vec::new(), Vec::new());
    for vcpus in VCPUS {
        eprintln!("bench: {vcpus} vCPUs");
        let _running = Vcpus::start(&programs.vcpus, vcpus)?;
        for times in [false, true] {
            let mut arguments = ["poll".into(), "--vcpus".into(), vcpus.to_string()].to_vec();
            arguments.extend(["--seconds".into(), SECONDS.to_string()]);
            arguments.extend(times.then(|| "--made-up-times".to_owned()));
            let measured = programs.bench(&arguments)?;
            let row = row(vcpus, times, &measured);
            rows.push(row.with_context(|| format!("{vcpus} vCPUs: {measured}"))?);
        }
        tops.push(vec![table::whole(vcpus.into()), table::percent(top_cpu_share(programs)?, 2)]);
    }
    let mut columns = vec!["vCPUs", "rows", "times", "CPU", "ms per poll"];
    columns.extend(STAGES);
    columns.extend(["resident MiB", "own", "mapped", "peak"]);
    let heading = "The agent, polled each second (this machine; CPU of one core)";
    let polled = table::render(heading, &columns, 0, &rows);
    let heading =
        "vmexit top on a screen of 200 by 50, each second (this machine; CPU of one core)";
    let tops = table::render(heading, &["vCPUs", "CPU"], 0, &tops);
    Ok(format!("{polled}\n{tops}\n{}", frame_table(programs)?))
}

/// Returns the CPU time of `vmexit top`, with its first VM focused, as a share of a core.
fn top_cpu_share(programs: &BenchPrograms) -> Result<f64> {
    let tmux = Tmux::start(200, 50)?;
    tmux.line(&format!("exec {} top", programs.agent.display()))?;
    tmux.wait("list of VMs", |screen| screen.contains("Top detail"))?;
    tmux.press(&["Enter"])?;
    let pid = tmux.property("pane_pid")?;
    sleep(WARM_UP);
    let start = cpu_ns(&pid)?;
    sleep(Duration::from_secs(SECONDS.into()));
    Ok((cpu_ns(&pid)? - start) as f64 / 1e9 / f64::from(SECONDS))
}

/// Returns the CPU time of a process's first thread, nanoseconds (`Documentation/scheduler/sched-stats.rst`). Only
/// answers of VMMs are parsed by other threads.
fn cpu_ns(pid: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let ns = text.split(' ').next().context("/proc/PID/schedstat is empty")?;
    Ok(ns.parse()?)
}

/// Returns the table of the live view's cost per frame.
fn frame_table(programs: &BenchPrograms) -> Result<String> {
    let measured = programs.bench(&["frame"])?;
    let ms = |ns: f64| format!("{:.2}", ns / 1e6);
    let mut rows = Vec::new();
    for (screen, stages) in measured["screens"].as_object().context("no screens")? {
        let stages = ["subtract", "build", "draw"].map(|stage| number(stages, stage));
        let [subtract, build, draw] = stages;
        let (subtract, build, draw) = (subtract?, build?, draw?);
        let mut row = vec![screen.clone()];
        row.extend([build + draw, subtract, build, draw].map(ms));
        rows.push(row);
    }
    let heading = format!(
        "A frame of vmexit top: {} VMs, {} vCPUs, {} rows, made up (CPU time, ms)",
        number(&measured, "vms")?,
        number(&measured, "vcpus")?,
        table::whole(number(&measured, "rows")?),
    );
    let columns = ["screen", "build and draw", "subtract", "build", "draw"];
    Ok(table::render(&heading, &columns, 1, &rows))
}

/// Returns the row of a measurement.
///
/// # Errors
///
/// A vCPU or too many ports were not busy all the time.
fn row(vcpus: u32, times: bool, measured: &Value) -> Result<Vec<String>> {
    let busy = number(measured, "busy_vcpus")?;
    ensure!(busy == f64::from(vcpus), "only {busy} vCPUs were busy all the time");
    let rows = number(measured, "busy_rows")?;
    let all = f64::from(vcpus) * f64::from(PORTS);
    ensure!(
        rows >= BUSY * all,
        "{rows} rows were busy, not {all}: is this machine busy with other work?"
    );
    let (cpu_ns, polls) = (number(measured, "cpu_ns")?, number(measured, "polls")?);
    let ms_per_poll = |ns: f64| format!("{:.2}", ns / polls / 1e6);
    let share = cpu_ns / 1e9 / number(measured, "seconds")?;
    let mut row = vec![
        table::whole(vcpus.into()),
        table::whole(rows),
        if times { "made up" } else { "none" }.to_owned(),
        table::percent(share, 2),
        ms_per_poll(cpu_ns),
    ];
    for stage in STAGES {
        row.push(ms_per_poll(number(&measured["stages_ns"], stage)?));
    }
    let kib = |name| number(&measured["memory_kib"], name);
    let mapped = kib("RssFile")? + kib("RssShmem")?;
    let memory = [kib("VmRSS")?, kib("RssAnon")?, mapped, kib("VmHWM")?];
    row.extend(memory.map(|kib| format!("{:.1}", kib / 1024.0)));
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measured(busy_vcpus: u32, busy_rows: u32) -> Value {
        json!({
            "seconds": 20.0, "polls": 20, "busy_vcpus": busy_vcpus, "busy_rows": busy_rows,
            "cpu_ns": 100_000_000, "stages_ns": {
                "read": 20_000_000, "subtract": 30_000_000, "build": 1_000_000,
                "render": 2_000_000, "free": 0,
            },
            "memory_kib": {"VmRSS": 3072, "RssAnon": 1024, "RssFile": 1536, "RssShmem": 512,
                           "VmHWM": 4096},
        })
    }

    #[test]
    fn row_shows_figures_per_poll() {
        let row = row(10, false, &measured(10, 200)).unwrap();
        assert_eq!(row[..5], ["10", "200", "none", "0.50 %", "5.00"]);
        assert_eq!(row[5..10], ["1.00", "1.50", "0.05", "0.10", "0.00"]);
        assert_eq!(row[10..], ["3.0", "1.0", "2.0", "4.0"]);
    }

    #[test]
    fn row_of_idle_vcpus_is_an_error() {
        assert!(row(10, false, &measured(9, 200)).is_err());
        assert!(row(10, false, &measured(10, 189)).is_err());
        assert!(row(10, false, &json!({"busy_vcpus": 10, "busy_rows": 200})).is_err());
    }
}
