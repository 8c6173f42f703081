//! One vCPU thread of a trace, processed event by event like in vmexit's kernel side: at its entry,
//! an exit is recorded on its reason and on its detail with its whole duration.

use std::collections::HashMap;

use vmexit_common::key::Key;

use super::line::{ParsedEvent, PerfLine};
use crate::{
    counters::{Durations, MOST_TABLE_ROWS, RowInterval, Thread, VcpuInterval},
    vendor::Vendor,
};

/// A thread and its counters.
#[derive(Default)]
pub(super) struct ImportedVcpu {
    pub comm: String,
    pub pid: u32,
    /// Time of its first event, nanoseconds.
    since_ns: u64,
    number: Option<u32>,
    vendor: Option<Vendor>,
    in_flight: Option<InFlightExit>,
    observed: u64,
    lost_no_entry: u64,
    reasons: HashMap<Key, RowInterval>,
    details: HashMap<Key, RowInterval>,
}

/// An exit without an entry yet.
struct InFlightExit {
    ns: u64,
    reason: Key,
    detail: Option<Key>,
}

impl ImportedVcpu {
    /// The thread of its first event.
    pub(super) fn new(line: &PerfLine<'_>) -> Self {
        let (comm, pid) = (line.comm.to_owned(), line.pid.unwrap_or(0));
        Self { comm, pid, since_ns: line.ns, ..Self::default() }
    }

    /// Processes the next event. `room` is the number of rows that can still be created.
    pub(super) fn apply(&mut self, ns: u64, event: &ParsedEvent, room: &mut usize) {
        match *event {
            ParsedEvent::Exit { vcpu, vendor, code } => {
                self.number = vcpu.or(self.number);
                self.vendor = vendor.or(self.vendor);
                self.lost_no_entry += u64::from(self.in_flight.is_some());
                self.observed += 1;
                let reason = code.map_or(Key::reason(0).other(), Key::reason);
                self.in_flight = Some(InFlightExit { ns, reason, detail: None });
            }
            ParsedEvent::Entry { vcpu } => {
                self.number = vcpu.or(self.number);
                if let Some(exit) = self.in_flight.take() {
                    let ns = ns.saturating_sub(exit.ns);
                    record(&mut self.reasons, exit.reason, ns, room);
                    if let Some(detail) = exit.detail {
                        record(&mut self.details, detail, ns, room);
                    }
                }
            }
            ParsedEvent::Access { key, times } => match &mut self.in_flight {
                Some(exit) => {
                    // The exit is recorded on the last access. Earlier accesses, and the further
                    // ones of a string instruction, count as extra accesses.
                    let before = exit.detail.replace(key);
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
            ParsedEvent::PendingRead | ParsedEvent::Other => {}
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
            in_flight_change: i64::from(self.in_flight.is_some()),
            lost_no_entry: self.lost_no_entry,
            reasons: by_key(self.reasons),
            details: by_key(self.details),
            ..VcpuInterval::default()
        }
    }
}

fn record(rows: &mut HashMap<Key, RowInterval>, key: Key, ns: u64, room: &mut usize) {
    let row = row(rows, key, room);
    row.exits += 1;
    row.timed += 1;
    row.total_ns = row.total_ns.saturating_add(ns);
    row.min_ns = Some(row.min_ns.map_or(ns, |min| min.min(ns)));
    row.max_ns = Some(row.max_ns.map_or(ns, |max| max.max(ns)));
    row.durations.get_or_insert_default().record(ns, 1);
}

/// The row of a key; the `other` row of its kind if there are too many rows.
fn row<'a>(
    rows: &'a mut HashMap<Key, RowInterval>,
    key: Key,
    room: &mut usize,
) -> &'a mut RowInterval {
    let is_new = !rows.contains_key(&key);
    let key =
        if is_new && (rows.len() >= MOST_TABLE_ROWS || *room == 0) { key.other() } else { key };
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
