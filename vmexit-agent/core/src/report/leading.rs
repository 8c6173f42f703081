//! What a VM's exits were mostly for, found without tables: for lists of many VMs.

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
    counters::{RowInterval, VcpuInterval, place},
    device::Map,
};

/// What took most of a VM's handled time; where no time is known, what came most often.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leading {
    /// The exit reason, of those that are no waiting; null if there was none.
    pub reason: Option<LeadingReason>,
    /// What exits were for; null if there was nothing. Why they went to userspace is left out: that goes
    /// with all that userspace answers.
    pub detail: Option<LeadingDetail>,
}

/// The exit reason ahead of all others.
#[derive(Clone, Debug, Serialize)]
pub struct LeadingReason {
    /// Name as Linux prints it.
    pub reason: String,
    /// Its share, percent: of the handled time, or of exits that do not wait.
    pub share_percent: f64,
}

/// What exits were for more than for anything else.
#[derive(Clone, Debug, Serialize)]
pub struct LeadingDetail {
    /// Which thing.
    #[serde(flatten)]
    pub subject: Subject,
    /// Its share, percent: of the handled time, or of all that exits were for.
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
    /// The weight of all keys together.
    all: u64,
}

/// What its weight is made from.
struct KeySum {
    key: Key,
    exits: u64,
    unmatched: u64,
    timed: u64,
    total_ns: u64,
}

/// By time, or by number.
fn heaviest<'a>(rows: impl Iterator<Item = &'a RowInterval>, timed: bool) -> Option<Heaviest> {
    let mut sums: Vec<KeySum> = Vec::new();
    let mut next = 0;
    for row in rows {
        let key = row.key.of_any_size();
        let at = place(&sums, next, |sum| sum.key == key);
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
