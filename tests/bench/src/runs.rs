//! How often eBPF programs ran, and for how long, by the kernel's own statistics.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use serde::Serialize;

/// The runs of one program, or of several of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Runs {
    /// How often it ran.
    runs: u64,
    /// How long, nanoseconds: with one reading of the clock, without the way to the program
    /// (`__bpf_prog_run`, include/linux/filter.h).
    ns: u64,
}

/// The programs that are loaded already: what the host does by itself is not what is measured.
pub(crate) struct Others {
    newest: u32,
}

impl Others {
    /// All that are there now. A later one has a higher id (`bpf_prog_alloc_id`,
    /// kernel/bpf/syscall.c).
    pub(crate) fn now() -> Self {
        Self { newest: all_runs().into_keys().next_back().unwrap_or(0) }
    }
}

/// The kernel's statistics, switched on. They cost each run two readings of the clock.
pub(crate) struct Counting {
    before: BTreeMap<u32, (String, Runs)>,
    _statistics: OwnedFd,
}

impl Counting {
    /// Switches them on.
    pub(crate) fn start() -> Result<Self> {
        let statistics =
            enable_stats(Stats::RunTime).context("the kernel can't count runs (Linux 5.8)")?;
        Ok(Self { before: all_runs(), _statistics: statistics })
    }

    /// Switches them off again. By name; programs that did not run are left out, and so are others'.
    pub(crate) fn end(self, others: &Others) -> BTreeMap<String, Runs> {
        let mut by_name: BTreeMap<String, Runs> = BTreeMap::new();
        for (id, (name, after)) in all_runs().split_off(&(others.newest + 1)) {
            let before = self.before.get(&id).map_or_else(Runs::default, |&(_, before)| before);
            if after.runs > before.runs {
                let sum = by_name.entry(name).or_default();
                sum.runs += after.runs - before.runs;
                sum.ns += after.ns.saturating_sub(before.ns);
            }
        }
        by_name
    }
}

/// By program id. One that has gone since it was listed is passed over.
fn all_runs() -> BTreeMap<u32, (String, Runs)> {
    let programs = loaded_programs().flatten();
    programs
        .map(|program| {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            let ns = u64::try_from(program.run_time().as_nanos()).unwrap_or(u64::MAX);
            (program.id(), (name, Runs { runs: program.run_count(), ns }))
        })
        .collect()
}
