//! Trends: rates of past intervals.

use std::collections::BTreeMap;

use vmexit_core::report::{Report, Tables};

use super::rows::{FigureContext, Item, rate};

/// Maximum number of rates of a trend, more than the columns of any screen.
const MOST: usize = 256;

/// Trend of one row.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend {
    /// Rates per second, oldest first.
    pub(super) rates: Vec<f64>,
    /// Displayed time of the row's first interval; `None` if the row was in the first interval after the VM was opened.
    pub(super) since: Option<String>,
}

/// Trends of all VMs, and of the rows of the open VM.
#[derive(Debug, Default)]
pub(super) struct Trends {
    vms: BTreeMap<u32, Trend>,
    /// Process ID of the open VM, displayed time of its first interval, and its rows.
    rows: Option<(u32, String, BTreeMap<Item, Trend>)>,
}

impl Trends {
    /// Adds an interval, with the displayed time of its end. The rows start again if another VM is open than before.
    pub(super) fn add(
        &mut self,
        report: &Report,
        show: FigureContext,
        open: Option<u32>,
        time: &str,
    ) {
        self.vms.retain(|pid, _| report.vms.iter().any(|vm| vm.pid == *pid));
        for vm in &report.vms {
            self.vms.entry(vm.pid).or_default().push(rate(&vm.total, show));
        }
        let Some(vm) = report.vms.iter().find(|vm| Some(vm.pid) == open) else { return };
        let known = self.rows.take_if(|(pid, ..)| *pid == vm.pid);
        let is_first = known.is_none();
        let (pid, started, mut rows) =
            known.unwrap_or_else(|| (vm.pid, time.to_owned(), BTreeMap::new()));
        let mut now: BTreeMap<Item, f64> = rates(&vm.tables).collect();
        now.extend(vm.vcpus.iter().map(|vcpu| (Item::Vcpu(vcpu.tid), rate(&vcpu.total, show))));
        for item in now.keys() {
            rows.entry(*item).or_insert_with(|| Trend {
                since: (!is_first).then(|| time.to_owned()),
                ..Trend::default()
            });
        }
        for (item, trend) in &mut rows {
            trend.push(now.get(item).copied().unwrap_or(0.0));
        }
        self.rows = Some((pid, started, rows));
    }

    /// Rates of a VM, oldest first.
    pub(super) fn vm(&self, pid: u32) -> &[f64] {
        self.vms.get(&pid).map_or(&[], |trend| &trend.rates)
    }

    /// Trend of a row of the open VM.
    pub(super) fn row(&self, pid: u32, item: Item) -> Option<&Trend> {
        self.rows.as_ref().filter(|(open, ..)| *open == pid)?.2.get(&item)
    }

    /// Displayed time of the first interval of the open VM.
    pub(super) fn started(&self, pid: u32) -> Option<&str> {
        self.rows.as_ref().filter(|(open, ..)| *open == pid).map(|(_, started, _)| started.as_str())
    }
}

impl Trend {
    fn push(&mut self, rate: f64) {
        if self.rates.len() == MOST {
            self.rates.remove(0);
        }
        self.rates.push(rate);
    }
}

/// Rates of all rows of a VM's tables.
fn rates(tables: &Tables) -> impl Iterator<Item = (Item, f64)> {
    let reasons = tables.exits.iter().map(|exit| (Item::Reason(exit.code), exit.stats.per_second));
    let details = tables.details.values().flatten();
    reasons.chain(details.map(|row| (Item::of(&row.subject), row.stats.per_second)))
}
