//! What a live view is given: at its start, and at each reading.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use vmexit_core::report::Report;

use crate::{
    figure::Figure,
    options::By,
    top::columns::{Column, Set},
};

/// What was read, in words.
#[derive(Clone, Debug)]
pub struct FrameData {
    /// When.
    pub time: SystemTime,
    /// The last interval.
    pub interval: Report,
    /// All since the baseline, where [`State::is_cumulative`](super::State::is_cumulative).
    pub cumulative: Option<Report>,
    /// VMs in these reports that have ended, by process id.
    pub ended: BTreeSet<u32>,
}

/// How a live view begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From one reading to the next.
    pub interval: Duration,
    /// What rows are ordered by.
    pub sort: Figure,
    /// Which of a VM's tables comes first: that of exit reasons, or that of its vCPUs.
    pub by: By,
    /// The VM to open at once, by process id.
    pub open: Option<u32>,
    /// Columns by set, from left to right; where none are given, all.
    pub columns: BTreeMap<Set, Vec<&'static Column>>,
    /// It is not of now.
    pub replay: bool,
}

impl Default for Settings {
    /// All VMs of now, once a second.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            sort: Figure::Time,
            by: By::Vm,
            open: None,
            columns: BTreeMap::new(),
            replay: false,
        }
    }
}
