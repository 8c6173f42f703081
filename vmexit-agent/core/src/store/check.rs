//! What a file may say for the model to be able to add it up: so much at most, and no sum too large.

use vmexit_common::key::Kind;

use crate::{
    counters::{RowInterval, VcpuInterval},
    measurement::Measurement,
};

/// VMs of a host that were seen in a capture, with those that ended.
const MOST_VMS: usize = 1 << 14;
/// vCPU threads likewise.
const MOST_VCPUS: usize = 1 << 16;
/// Rows of a vCPU: a book has some two hundred, and no reader of other files makes more than these.
pub(crate) const MOST_ROWS: usize = 1 << 10;
/// Names of exit reasons: the kernel has some two hundred.
const MOST_NAMES: usize = 1 << 12;
/// Steps of an interval.
const MOST_STEPS: usize = 1 << 12;
/// All that was counted together: less than half of what an `i64` holds, for some is subtracted.
const MOST: u64 = 1 << 61;

/// Says what is wrong, as the end of a sentence.
pub(crate) fn check(recording: &Measurement) -> Result<(), &'static str> {
    limits(recording.vms.len().max(recording.maps.len()), recording.interval.vcpus.len())?;
    if recording.reasons.count() > MOST_NAMES {
        return Err("it has more names of exit reasons than a kernel has");
    }
    if recording.steps.len() > MOST_STEPS {
        return Err("it has more steps than vmexit takes");
    }
    Amounts::default().add(recording)
}

/// Whether there can be so many.
pub(super) fn limits(vms: usize, vcpus: usize) -> Result<(), &'static str> {
    if vms > MOST_VMS {
        return Err("it has more VMs than a host can have");
    }
    if vcpus > MOST_VCPUS {
        return Err("it has more vCPUs than a host can have");
    }
    Ok(())
}

/// What recordings add up to.
#[derive(Debug, Default)]
pub(super) struct Amounts {
    counts: u64,
    ns: u64,
}

impl Amounts {
    /// Adds one; says what is wrong, as the end of a sentence, if that is too much.
    pub(super) fn add(&mut self, recording: &Measurement) -> Result<(), &'static str> {
        let interval = &recording.interval;
        for step in &recording.steps {
            self.count(step.counts.iter().map(|count| count.count))?;
            self.time([step.span_ns, step.unwatched_ns])?;
        }
        self.time([interval.span_ns, interval.unwatched_ns])?;
        let loss = &interval.loss;
        self.count([
            loss.vcpu_table_full,
            loss.vcpu_limit,
            loss.unreadable,
            loss.unmatched,
            loss.slow,
        ])?;
        self.count(interval.missed.values().copied())?;
        self.count([interval.torn])?;
        interval.vcpus.iter().try_for_each(|vcpu| self.vcpu(vcpu))
    }

    fn vcpu(&mut self, vcpu: &VcpuInterval) -> Result<(), &'static str> {
        if vcpu.reasons.len() + vcpu.details.len() > MOST_ROWS {
            return Err("a vCPU has more rows than vmexit keeps");
        }
        if vcpu.in_flight_change.unsigned_abs() > vcpu.observed.max(1) {
            return Err("a vCPU has more open exits than exits");
        }
        let is_reason = |row: &RowInterval| row.key.table() == Some(Kind::Reason);
        if !vcpu.reasons.iter().all(is_reason) || vcpu.details.iter().any(is_reason) {
            return Err(
                "an exit reason is where a detail should be, or a detail where a reason should be",
            );
        }
        let halts = &vcpu.halts;
        self.count([vcpu.observed, vcpu.lost_no_entry, halts.blocked, halts.polled])?;
        self.time([halts.blocked_ns, halts.polled_ns])?;
        vcpu.reasons.iter().chain(&vcpu.details).try_for_each(|row| self.row(row))
    }

    fn row(&mut self, row: &RowInterval) -> Result<(), &'static str> {
        self.count([row.exits, row.unmatched, row.extra_accesses, row.timed])?;
        let durations = row.durations.iter().flat_map(|durations| durations.iter());
        self.count(durations.map(|(_, count)| count))?;
        self.time([row.total_ns, row.user_ns])
    }

    fn count(&mut self, counts: impl IntoIterator<Item = u64>) -> Result<(), &'static str> {
        for count in counts {
            self.counts = self.counts.saturating_add(count);
        }
        if self.counts > MOST { Err("its counts are too large") } else { Ok(()) }
    }

    fn time(&mut self, times: impl IntoIterator<Item = u64>) -> Result<(), &'static str> {
        for ns in times {
            self.ns = self.ns.checked_add(ns).ok_or("its times are too large")?;
        }
        Ok(())
    }
}
