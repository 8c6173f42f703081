//! One vCPU thread of a trace, from event to event, as the kernel side of vmexit has it: an exit is booked at
//! its entry, whole, on its reason and on what it was for.

use std::collections::HashMap;

use vmexit_common::key::Key;

use super::line::{ParsedEvent, PerfLine};
use crate::{
    counters::{Durations, RowInterval, Thread, VcpuInterval},
    store::MOST_ROWS,
    vendor::Vendor,
};

/// A thread and what was counted of it.
#[derive(Default)]
pub(super) struct ImportedVcpu {
    pub comm: String,
    pub pid: u32,
    /// When it was first seen, nanoseconds.
    since_ns: u64,
    number: Option<u32>,
    vendor: Option<Vendor>,
    open: Option<Open>,
    observed: u64,
    lost_no_entry: u64,
    reasons: HashMap<Key, RowInterval>,
    details: HashMap<Key, RowInterval>,
}

struct Open {
    ns: u64,
    reason: Key,
    detail: Option<Key>,
}

impl ImportedVcpu {
    /// One that was first seen in this line.
    pub(super) fn new(line: &PerfLine<'_>) -> Self {
        let (comm, pid) = (line.comm.to_owned(), line.pid.unwrap_or(0));
        Self { comm, pid, since_ns: line.ns, ..Self::default() }
    }

    /// The next event; `room` is for how many rows more there is memory.
    pub(super) fn follow(&mut self, ns: u64, what: &ParsedEvent, room: &mut usize) {
        match *what {
            ParsedEvent::Exit { vcpu, vendor, code } => {
                self.number = vcpu.or(self.number);
                self.vendor = vendor.or(self.vendor);
                self.lost_no_entry += u64::from(self.open.is_some());
                self.observed += 1;
                let reason = code.map_or(Key::reason(0).other(), Key::reason);
                self.open = Some(Open { ns, reason, detail: None });
            }
            ParsedEvent::Entry { vcpu } => {
                self.number = vcpu.or(self.number);
                if let Some(open) = self.open.take() {
                    let ns = ns.saturating_sub(open.ns);
                    book(&mut self.reasons, open.reason, ns, room);
                    if let Some(detail) = open.detail {
                        book(&mut self.details, detail, ns, room);
                    }
                }
            }
            ParsedEvent::Access { key, times } => match &mut self.open {
                Some(open) => {
                    // The exit goes to the last; of those before, and of a string, the accesses are counted.
                    let before = open.detail.replace(key);
                    if let Some(before) = before {
                        row(&mut self.details, before, room).extra_accesses += 1;
                    }
                    if times > 1 {
                        row(&mut self.details, key, room).extra_accesses += times - 1;
                    }
                }
                None => {
                    let row = row(&mut self.details, key, room);
                    row.unmatched += 1;
                    row.extra_accesses += times - 1;
                }
            },
            ParsedEvent::Announced | ParsedEvent::Other => {}
        }
    }

    pub(super) fn finish(self, tid: u32) -> VcpuInterval {
        let by_key = |rows: HashMap<Key, RowInterval>| {
            let mut rows: Vec<RowInterval> = rows.into_values().collect();
            rows.sort_by_key(|row| row.key);
            rows
        };
        VcpuInterval {
            thread: Thread { pid: self.pid, tid, since_ns: self.since_ns },
            vcpu_id: self.number,
            isa: self.vendor.map_or(0, Vendor::isa),
            observed: self.observed,
            in_flight_change: i64::from(self.open.is_some()),
            lost_no_entry: self.lost_no_entry,
            reasons: by_key(self.reasons),
            details: by_key(self.details),
            ..VcpuInterval::default()
        }
    }
}

fn book(rows: &mut HashMap<Key, RowInterval>, key: Key, ns: u64, room: &mut usize) {
    let row = row(rows, key, room);
    row.exits += 1;
    row.timed += 1;
    row.total_ns = row.total_ns.saturating_add(ns);
    row.min_ns = Some(row.min_ns.map_or(ns, |min| min.min(ns)));
    row.max_ns = Some(row.max_ns.map_or(ns, |max| max.max(ns)));
    row.durations.get_or_insert_default().record(ns, 1);
}

/// The row of a key, or that of all others of its kind where there are too many.
fn row<'a>(
    rows: &'a mut HashMap<Key, RowInterval>,
    key: Key,
    room: &mut usize,
) -> &'a mut RowInterval {
    /// Of a table; so that reasons and details have room for `other` each.
    const MOST: usize = MOST_ROWS / 2 - 16;
    let is_new = !rows.contains_key(&key);
    let key = if is_new && (rows.len() >= MOST || *room == 0) { key.other() } else { key };
    rows.entry(key).or_insert_with(|| {
        *room = room.saturating_sub(1);
        RowInterval {
            key,
            exits: 0,
            unmatched: 0,
            extra_accesses: 0,
            timed: 0,
            total_ns: 0,
            user_ns: 0,
            min_ns: None,
            max_ns: None,
            durations: Some(Box::new(Durations::default())),
        }
    })
}
