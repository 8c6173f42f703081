//! What was: the rates of past intervals.

use std::collections::BTreeMap;

use vmexit_core::report::{Report, Tables};

use super::rows::{FigureContext, Item, rate};

/// Intervals that are remembered: more than any screen shows.
const MOST: usize = 256;

/// The rates of one row, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend {
    pub(super) rates: Vec<f64>,
    /// When the row was first seen, as shown; `None` if it was there already when somebody first looked.
    pub(super) since: Option<String>,
}

/// The rates of each VM, and of each row of the VM that has tables.
#[derive(Debug, Default)]
pub(super) struct Trends {
    vms: BTreeMap<u32, Trend>,
    /// Of the VM with tables, and when its tables were first looked at.
    rows: Option<(u32, String, BTreeMap<Item, Trend>)>,
}

impl Trends {
    /// Notes an interval that ended at a time, as shown. Rows of a VM other than the last one's begin anew.
    pub(super) fn note(
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
        let (pid, begun, mut rows) =
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
        self.rows = Some((pid, begun, rows));
    }

    pub(super) fn vm(&self, pid: u32) -> &[f64] {
        self.vms.get(&pid).map_or(&[], |trend| &trend.rates)
    }

    pub(super) fn row(&self, pid: u32, item: Item) -> Option<&Trend> {
        self.rows.as_ref().filter(|(of, ..)| *of == pid)?.2.get(&item)
    }

    /// When the VM's tables were first looked at.
    pub(super) fn begun(&self, pid: u32) -> Option<&str> {
        self.rows.as_ref().filter(|(of, ..)| *of == pid).map(|(_, begun, _)| begun.as_str())
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

fn rates(tables: &Tables) -> impl Iterator<Item = (Item, f64)> {
    let reasons = tables.exits.iter().map(|exit| (Item::Reason(exit.code), exit.stats.per_second));
    let details = tables.details.values().flatten();
    reasons.chain(details.map(|row| (Item::of(&row.subject), row.stats.per_second)))
}
