//! Number and duration of runs of eBPF programs, by the kernel's statistics.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use serde::Serialize;

/// Runs of all programs with one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ProgramRuns {
    /// Number of runs.
    runs: u64,
    /// Duration of all runs, nanoseconds. It includes one reading of the clock, but not the call of the program
    /// (`__bpf_prog_run`, include/linux/filter.h).
    ns: u64,
}

/// Programs that were loaded before, which are not part of the measurement.
pub(crate) struct OtherPrograms {
    newest: u32,
}

impl OtherPrograms {
    /// All programs loaded now. Programs loaded later have higher IDs (`bpf_prog_alloc_id`,
    /// kernel/bpf/syscall.c).
    pub(crate) fn now() -> Self {
        Self { newest: all_runs().into_keys().next_back().unwrap_or(0) }
    }
}

/// The kernel's statistics of runs, enabled. They cost each run two readings of the clock.
pub(crate) struct EnabledStatistics {
    before: BTreeMap<u32, (String, ProgramRuns)>,
    _statistics: OwnedFd,
}

impl EnabledStatistics {
    /// Enables the statistics.
    ///
    /// # Errors
    ///
    /// When the kernel has no statistics of runs.
    pub(crate) fn start() -> Result<Self> {
        let statistics =
            enable_stats(Stats::RunTime).context("the kernel can't count runs (Linux 5.8)")?;
        Ok(Self { before: all_runs(), _statistics: statistics })
    }

    /// Disables the statistics. Returns the runs by name, without programs that did not run and without others.
    pub(crate) fn end(self, others: &OtherPrograms) -> BTreeMap<String, ProgramRuns> {
        let mut by_name: BTreeMap<String, ProgramRuns> = BTreeMap::new();
        for (id, (name, after)) in all_runs().split_off(&(others.newest + 1)) {
            let before =
                self.before.get(&id).map_or_else(ProgramRuns::default, |&(_, before)| before);
            if after.runs > before.runs {
                let sum = by_name.entry(name).or_default();
                sum.runs += after.runs - before.runs;
                sum.ns += after.ns.saturating_sub(before.ns);
            }
        }
        by_name
    }
}

/// Runs by program ID. Programs unloaded since they were listed are left out.
fn all_runs() -> BTreeMap<u32, (String, ProgramRuns)> {
    let programs = loaded_programs().flatten();
    programs
        .map(|program| {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            let ns = u64::try_from(program.run_time().as_nanos()).unwrap_or(u64::MAX);
            (program.id(), (name, ProgramRuns { runs: program.run_count(), ns }))
        })
        .collect()
}
