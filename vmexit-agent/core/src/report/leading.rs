//! Main exit reason and main detail of a VM, found without building tables: for lists of many VMs.

use std::cmp::Reverse;

use serde::Serialize;
use vmexit_common::key::{Key, Kind};

use super::{
    Subject, Total,
    frame::{Frame, code_of, reason_name, row_waits},
    stats::{percent, scaled},
    subject::Naming,
};
use crate::{
    counters::{RowInterval, VcpuInterval, position_near},
    device::Map,
};

/// Exit reason and detail with most of a VM's handled time; if times are unknown, with most exits.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leading {
    /// Main exit reason other than waiting; null without exits.
    pub reason: Option<LeadingReason>,
    /// Main detail; null if there is none. Reasons for exits to userspace are excluded, as they
    /// count the others' exits again.
    pub detail: Option<LeadingDetail>,
}

/// The main exit reason.
#[derive(Clone, Debug, Serialize)]
pub struct LeadingReason {
    /// Linux's name of the exit reason.
    pub reason: String,
    /// Share of the handled time, or of exits other than waiting, percent.
    pub share_percent: f64,
}

/// The main detail.
#[derive(Clone, Debug, Serialize)]
pub struct LeadingDetail {
    /// Subject of the exits.
    #[serde(flatten)]
    pub subject: Subject,
    /// Share of the handled time, or of all details, percent.
    pub share_percent: f64,
}

impl Leading {
    pub(super) fn of(
        reasons: &[RowInterval],
        vcpus: &[&VcpuInterval],
        total: &Total,
        map: &Map,
        frame: Frame<'_>,
    ) -> Self {
        let reasons = reasons.iter().filter(|row| !row_waits(row, frame.vendor));
        let details = vcpus.iter().flat_map(|vcpu| &vcpu.details);
        let details = details.filter(|row| row.key.table() != Some(Kind::Userspace));
        let timed = total.handled_ns > 0;
        let (reason, detail) = (heaviest(reasons, timed), heaviest(details, timed));
        let share = |heaviest: &Heaviest| {
            percent(heaviest.weight, if timed { total.handled_ns } else { heaviest.all })
        };
        Self {
            reason: reason.map(|heaviest| LeadingReason {
                share_percent: share(&heaviest),
                reason: reason_name(code_of(heaviest.key), frame),
            }),
            detail: detail.map(|heaviest| LeadingDetail {
                share_percent: share(&heaviest),
                subject: Subject::of(heaviest.key, Naming { vendor: frame.vendor, map }),
            }),
        }
    }
}

struct Heaviest {
    key: Key,
    weight: u64,
    /// Total weight of all keys.
    all: u64,
}

/// Sums from which the weight of a key is computed.
struct KeySum {
    key: Key,
    exits: u64,
    unmatched: u64,
    timed: u64,
    total_ns: u64,
}

/// The key with the highest time or count.
fn heaviest<'a>(rows: impl Iterator<Item = &'a RowInterval>, timed: bool) -> Option<Heaviest> {
    let mut sums: Vec<KeySum> = Vec::new();
    let mut next = 0;
    for row in rows {
        let key = row.key.of_any_size();
        let at = position_near(&sums, next, |sum| sum.key == key);
        if at == sums.len() {
            sums.push(KeySum { key, exits: 0, unmatched: 0, timed: 0, total_ns: 0 });
        }
        let sum = &mut sums[at];
        sum.exits += row.exits;
        sum.unmatched += row.unmatched;
        sum.timed += row.timed;
        sum.total_ns += row.total_ns;
        next = at + 1;
    }
    let weight = |sum: &KeySum| {
        if timed { scaled(sum.total_ns, sum.exits, sum.timed) } else { sum.exits + sum.unmatched }
    };
    let all = sums.iter().map(weight).fold(0, u64::saturating_add);
    let heaviest = sums.iter().max_by_key(|sum| (weight(sum), Reverse(sum.key)))?;
    let weight = weight(heaviest);
    (weight > 0).then_some(Heaviest { key: heaviest.key, weight, all })
}
