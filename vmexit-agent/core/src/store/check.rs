//! Limits on untrusted recordings, so that sums cannot overflow.

use vmexit_common::key::Kind;

use super::ENDED;
use crate::{
    counters::{MOST_ROWS, RowInterval, VcpuInterval},
    measurement::Measurement,
};

/// Maximum number of VMs, including those that ended.
const MOST_VMS: usize = 1 << 14;
/// Maximum number of vCPU threads, including those that ended.
pub(super) const MOST_VCPUS: usize = 1 << 16;
/// Maximum number of names of exit reasons: the kernel has about 200.
const MOST_NAMES: usize = 1 << 12;
/// Maximum number of steps.
const MOST_STEPS: usize = 1 << 12;
/// Maximum number of counts in all steps: 240 steps of a thousand VMs with 16 exit reasons each.
const MOST_COUNTS: usize = 1 << 22;
/// Maximum length of a name, bytes: what a VM's process may pass as one argument.
const LONGEST_NAME: usize = 128 << 10;
/// Maximum sum of all counts: less than half of `i64::MAX`, as some are subtracted.
const MOST: u64 = 1 << 61;

/// Checks a recording against the limits.
///
/// # Errors
/// A limit is exceeded: the message says which.
pub(crate) fn check(recording: &Measurement) -> Result<(), &'static str> {
    limits(recording.vms.len().max(recording.maps.len()), recording.interval.vcpus.len())?;
    if recording.reasons.count() > MOST_NAMES {
        return Err("too many names of exit reasons");
    }
    if recording.steps.len() > MOST_STEPS {
        return Err("too many steps");
    }
    let counts = recording.steps.iter().map(|step| step.counts.len()).sum::<usize>();
    if counts > MOST_COUNTS {
        return Err("too many counts in the steps");
    }
    if !names(recording).all(|name| name.len() <= LONGEST_NAME) {
        return Err("a name is too long");
    }
    if recording.interval.missed.len() > MOST_NAMES {
        return Err("too many tracepoints");
    }
    Amounts::default().add(recording)
}

/// Texts of a recording that the owners of VMs chose, and the names of the host.
fn names(recording: &Measurement) -> impl Iterator<Item = &str> {
    let vms = recording.vms.iter().flat_map(|vm| {
        [Some(vm.name.as_str()), vm.uuid.as_deref(), vm.machine.name()].into_iter().flatten()
    });
    let host = &recording.host;
    vms.chain([host.name.as_str(), host.kernel.as_str(), recording.version.as_str()])
}

/// Checks numbers of VMs and vCPUs.
pub(super) fn limits(vms: usize, vcpus: usize) -> Result<(), &'static str> {
    if vms > MOST_VMS {
        return Err("too many VMs for one host");
    }
    if vcpus > MOST_VCPUS {
        return Err("too many vCPUs for one host");
    }
    Ok(())
}

/// Sums of all counts and of all times of recordings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amounts {
    counts: u64,
    ns: u64,
}

impl Amounts {
    /// Returns the amounts with those of a recording.
    pub(super) fn with(mut self, recording: &Measurement) -> Result<Self, &'static str> {
        self.add(recording)?;
        Ok(self)
    }

    fn add(&mut self, recording: &Measurement) -> Result<(), &'static str> {
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
            return Err("too many rows of a vCPU");
        }
        // The sum of threads that have ended has up to one exit of each.
        let threads = if vcpu.thread.tid == ENDED { MOST_VCPUS as u64 } else { 1 };
        if vcpu.in_flight_change.unsigned_abs() > vcpu.observed.max(threads) {
            return Err("more exits in flight than exits of a vCPU");
        }
        let is_reason = |row: &RowInterval| row.key.table() == Some(Kind::Reason);
        if !vcpu.reasons.iter().all(is_reason) || vcpu.details.iter().any(is_reason) {
            return Err("an exit reason in the rows of details, or the reverse");
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
        if self.counts > MOST { Err("counts too large") } else { Ok(()) }
    }

    fn time(&mut self, times: impl IntoIterator<Item = u64>) -> Result<(), &'static str> {
        for ns in times {
            self.ns = self.ns.checked_add(ns).ok_or("times too large")?;
        }
        Ok(())
    }
}
