//! Input of the live view: settings at its start, and the reports of each reading.

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

/// Reports of a reading.
#[derive(Clone, Debug)]
pub struct FrameData {
    /// Time of the reading.
    pub time: SystemTime,
    /// Report of the last interval.
    pub interval: Report,
    /// Report since the baseline; only needed if [`State::is_cumulative`](super::State::is_cumulative).
    pub cumulative: Option<Report>,
    /// Process IDs of the VMs in these reports that have ended.
    pub ended: BTreeSet<u32>,
}

/// Settings of the live view at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between readings.
    pub interval: Duration,
    /// Sort key of the rows.
    pub sort: Figure,
    /// First table of an opened VM: exit reasons, or vCPUs.
    pub by: By,
    /// Process ID of the VM to open; `None` for the list of VMs.
    pub open: Option<u32>,
    /// Columns by set, from left to right; a set that is missing has all of its columns.
    pub columns: BTreeMap<Set, Vec<&'static Column>>,
    /// Whether the reports are from a recording.
    pub replay: bool,
}

impl Default for Settings {
    /// The list of running VMs, read once per second.
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
