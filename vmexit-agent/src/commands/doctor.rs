//! `vmexit doctor`: checks whether this host can be traced. If the static checks pass, loads the programs and counts
//! exits for a second.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tokio::time::sleep;
use vmexit_core::{
    counters::{Interval, Snapshot},
    escape::escaped,
    event::Event,
    timing::Timing,
    vm,
};
use vmexit_view::Format;

use crate::{
    args::{choice, heading::OUTPUT},
    discover,
    doctor::{self, Check, CheckState},
    error::Error,
    output::Output,
    probe::{
        Probe, ProbeOptions,
        plan::{AttachPlan, Tracepoints},
    },
};

/// Arguments of `vmexit doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Format
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,
}

/// Time to count exits for.
const COUNT_TIME: Duration = Duration::from_secs(1);

pub(super) async fn run(args: DoctorArgs) -> Result<(), Error> {
    let mut checks = doctor::examine();
    let can_load = checks.iter().all(|check| check.state < CheckState::Problem);
    if can_load {
        checks.push(check_programs().await);
    }
    let problems = checks.iter().filter(|check| check.state == CheckState::Problem).count();
    Output::open(None).await?.write(render(&checks, args.format)?).await?;
    if problems > 0 { Err(Error::ChecksFailed(problems)) } else { Ok(()) }
}

/// Checks whether programs can be loaded and attached, and whether they see exits.
async fn check_programs() -> Check {
    let vms = discover::find_all().map(|found| found.vms).unwrap_or_default();
    match count_events(&vms).await {
        Err(error) => Check {
            name: "programs".into(),
            state: CheckState::Problem,
            message: error.to_string(),
        },
        Ok(None) => Check {
            name: "programs".into(),
            state: CheckState::Ok,
            message: "loaded and attached; no VM is running to count exits of".into(),
        },
        Ok(Some((exits, other_events))) => doctor::exits(exits, other_events),
    }
}

/// Exits and other events of a second; `None` without a VM.
async fn count_events(vms: &[vm::Vm]) -> Result<Option<(u64, u64)>, Error> {
    let plan = AttachPlan::make(Tracepoints::Auto)?;
    let vcpus: usize = vms.iter().map(|vm| vm.vcpus).sum();
    let options = ProbeOptions {
        max_vcpus: u32::try_from(vcpus).unwrap_or(1),
        // A VM that starts meanwhile has no stats blocks.
        pids: Some(vms.iter().map(|vm| vm.pid).collect()),
        timing: Timing::All,
        events: Event::ALL.into(),
        sampled: false,
        slow: None,
    };
    let mut probe = Probe::start(&plan, &options)?;
    if vms.is_empty() {
        return Ok(None);
    }
    sleep(COUNT_TIME).await;
    let interval = Interval::between(&Snapshot::default(), &probe.snapshot(|_| false)?);
    let exits = interval.vcpus.iter().map(|vcpu| vcpu.observed).sum();
    let other_events =
        interval.vcpus.iter().flat_map(|vcpu| &vcpu.details).map(|row| row.unmatched).sum();
    Ok(Some((exits, other_events)))
}

fn render(checks: &[Check], format: Format) -> Result<Bytes, Error> {
    if format == Format::Json {
        return Ok(vmexit_view::json(&checks)?);
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let lines = checks.iter().map(|check| {
        let state = match check.state {
            CheckState::Ok => "ok",
            CheckState::Note => "note",
            CheckState::Problem => "PROBLEM",
        };
        format!("{state:7}  {:width$}  {}\n", check.name, escaped(&check.message))
    });
    Ok(lines.collect::<String>().into())
}
