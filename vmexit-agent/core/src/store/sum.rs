//! Sums of consecutive measurements of one host. Process IDs may be reused by other VMs between them,
//! especially after a reboot.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    time::Duration,
};

use super::check::{self, Amounts, MOST_VCPUS};
use crate::{
    counters::{Step, Thread, VcpuInterval},
    measurement::Measurement,
    sampling::SamplingCost,
    timing::Shares,
    vm,
};

/// Maximum number of steps of a sum: beyond it, pairs of steps are merged.
const MOST_STEPS: usize = 240;

/// Lowest alias of a process ID that was reused by another VM: above any real one (`PID_MAX_LIMIT`,
/// include/linux/threads.h).
const FIRST_ALIAS: u32 = (1 << 22) + 1;

/// Sum of measurements of one host, added in the order of time.
#[derive(Debug, Default)]
pub struct MeasurementSum {
    sum: Option<Measurement>,
    /// Aliases of process IDs, by VM.
    aliases: HashMap<Identity, u32>,
    /// Steps of measurements merged into each step of the sum, which doubles with each [`halve`]; 0 while
    /// there is only one measurement.
    steps_per_step: usize,
    /// Steps of measurements in the last step of the sum.
    steps_in_last: usize,
    amounts: Amounts,
    /// Places of the sum's VMs by process ID, and of its vCPU threads.
    places: Places,
    /// Threads that were merged into [`ENDED`] rows.
    merged: u64,
    /// Counts of steps of the sum that were gone through to add those of a measurement.
    work: u64,
    /// Counts of steps and rows by reason of all measurements.
    counts: u64,
}

/// Places of VMs and vCPU threads in a sum.
#[derive(Debug, Default)]
struct Places {
    vms: HashMap<u32, usize>,
    vcpus: HashMap<Thread, usize>,
}

/// Work that a sum may take without being in proportion to what is added, counts of steps: some
/// seconds.
const MOST_WORK: u64 = 1 << 31;
/// Counts of the sum gone through for each count that is added, beyond it.
const WORK_PER_COUNT: u64 = 64;

/// Thread ID of the sum of a VM's threads that have ended.
pub const ENDED: u32 = 0;

/// Identity of a VM: distinguishes VMs that have the same process ID at different times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    pid: u32,
    name: String,
    uuid: Option<String>,
}

impl Identity {
    fn of(vm: &vm::Vm) -> Self {
        Self { pid: vm.pid, name: vm.name.clone(), uuid: vm.uuid.clone() }
    }
}

impl MeasurementSum {
    /// Adds the next measurement.
    ///
    /// # Errors
    /// The sum exceeds the limits of a recording; it is then unchanged.
    pub fn add(&mut self, mut next: Measurement) -> Result<(), &'static str> {
        let amounts = self.amounts.with(&next)?;
        if let Some(sum) = &self.sum {
            let new = next.interval.vcpus.iter();
            let new = new.filter(|vcpu| !self.places.vcpus.contains_key(&vcpu.thread)).count();
            // Names of VMs stay: only threads can be merged.
            check::limits(sum.vms.len() + self.new_vms(sum, &next), 0)?;
            if sum.interval.vcpus.len() + new > MOST_VCPUS {
                self.merge_ended(&next);
            }
            if self.places.vcpus.len() + new > MOST_VCPUS {
                return Err("too many vCPUs for one host");
            }
            let counts = next.steps.iter().map(|step| step.counts.len() as u64).sum::<u64>();
            let rows = next.interval.vcpus.iter().map(|vcpu| vcpu.reasons.len() as u64);
            self.counts += counts + rows.sum::<u64>();
            let gone_through = sum_counts(self.sum.as_ref()) * (1 + next.steps.len() as u64);
            let work = self.work.saturating_add(gone_through);
            if work > MOST_WORK.saturating_add(WORK_PER_COUNT.saturating_mul(self.counts)) {
                return Err("too many counts for so many intervals");
            }
            self.work = work;
        }
        self.amounts = amounts;
        let Some(mut sum) = self.sum.take() else {
            self.places = Places::of(&next);
            self.sum = Some(next);
            return Ok(());
        };
        if self.steps_per_step == 0 {
            self.steps_per_step = 1;
            let steps = steps_of(&mut sum);
            self.add_steps(&mut sum.steps, steps);
        }
        self.renumber_reused_pids(&sum, &mut next);
        let steps = steps_of(&mut next);
        let gap = sum.gap_before(&next);
        let gap_ns = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        if gap_ns > 0 {
            let gap = Step { unwatched_ns: gap_ns, ..Step::default() };
            self.add_steps(&mut sum.steps, vec![gap]);
        }
        self.add_steps(&mut sum.steps, steps);
        sum.extend(next, gap_ns, &mut self.places);
        self.sum = Some(sum);
        Ok(())
    }

    /// Number of VMs of `next` that are not in the sum, or have a process ID of another.
    fn new_vms(&self, sum: &Measurement, next: &Measurement) -> usize {
        let is_new = |vm: &&vm::Vm| {
            let known = self.places.vms.get(&vm.pid).and_then(|&at| sum.vms.get(at));
            known.is_none_or(|known| Identity::of(known) != Identity::of(vm))
                && !self.aliases.contains_key(&Identity::of(vm))
        };
        next.vms.iter().filter(is_new).count()
    }

    /// Merges the threads that have ended before `next`, by VM: all counts and losses stay, only who of
    /// them it was is lost.
    fn merge_ended(&mut self, next: &Measurement) {
        let Some(sum) = &mut self.sum else { return };
        let alive: HashSet<Thread> = next.interval.vcpus.iter().map(|vcpu| vcpu.thread).collect();
        let mut ended: BTreeMap<u32, VcpuInterval> = BTreeMap::new();
        let mut kept = Vec::with_capacity(alive.len());
        for mut vcpu in std::mem::take(&mut sum.interval.vcpus) {
            if alive.contains(&vcpu.thread) {
                kept.push(vcpu);
                continue;
            }
            self.merged += u64::from(vcpu.thread.tid != ENDED);
            let pid = vcpu.thread.pid;
            vcpu.thread = Thread { pid, tid: ENDED, since_ns: 0 };
            vcpu.vcpu_id = None;
            match ended.entry(pid) {
                Entry::Occupied(mut sum) => sum.get_mut().extend(vcpu, Shares::Same),
                Entry::Vacant(new) => drop(new.insert(vcpu)),
            }
        }
        kept.extend(ended.into_values());
        sum.interval.vcpus = kept;
        let ids: HashSet<(u32, u32)> =
            alive.iter().map(|thread| (thread.pid, thread.tid)).collect();
        for vm in &mut sum.vms {
            let pid = vm.pid;
            vm.threads.retain(|&tid, _| ids.contains(&(pid, tid)));
        }
        self.places = Places::of(sum);
    }

    /// Number of vCPU threads that have ended and were merged into one row for each VM, so that the
    /// sum stays within the limits.
    pub fn merged_threads(&self) -> u64 {
        self.merged
    }

    /// Whether no measurement has been added.
    pub fn is_empty(&self) -> bool {
        self.sum.is_none()
    }

    /// The sum so far; `None` without a measurement.
    pub fn get(&self) -> Option<&Measurement> {
        self.sum.as_ref()
    }

    /// The sum; `None` without a measurement.
    pub fn finish(self) -> Option<Measurement> {
        self.sum
    }

    /// Appends steps, merging as many into one as a bounded number of steps requires.
    fn add_steps(&mut self, steps: &mut Vec<Step>, next: Vec<Step>) {
        for step in next {
            match steps.last_mut() {
                Some(last) if self.steps_in_last < self.steps_per_step => last.extend(step),
                _ => {
                    steps.push(step);
                    self.steps_in_last = 0;
                }
            }
            self.steps_in_last += 1;
            if steps.len() > MOST_STEPS {
                halve(steps);
                // `MOST_STEPS` is even: the step just pushed has no partner, and `steps_in_last` still holds.
                self.steps_per_step *= 2;
            }
        }
    }

    /// Gives an alias to each VM in `next` whose process ID belongs to another VM in the sum.
    fn renumber_reused_pids(&mut self, sum: &Measurement, next: &mut Measurement) {
        let known = |pid: u32| self.places.vms.get(&pid).and_then(|&at| sum.vms.get(at));
        // Above all existing aliases: the next measurement may itself be a sum.
        let above = |free: u32, pid: u32| free.max(pid.saturating_add(1));
        let mut free = None;
        let pids: Vec<u32> = next.vms.iter().map(|vm| vm.pid).collect();
        let mut renumbered: BTreeMap<u32, u32> = BTreeMap::new();
        for vm in &mut next.vms {
            let identity = Identity::of(vm);
            if known(vm.pid).is_none_or(|known| Identity::of(known) == identity) {
                continue;
            }
            let first_free = *free.get_or_insert_with(|| {
                let pids = self.places.vms.keys().copied().chain(pids.iter().copied());
                pids.fold(FIRST_ALIAS, above)
            });
            let alias = *self.aliases.entry(identity).or_insert(first_free);
            free = Some(above(first_free, alias));
            renumbered.insert(vm.pid, alias);
            vm.pid = alias;
        }
        if renumbered.is_empty() {
            return;
        }
        let number = |pid: &mut u32| *pid = renumbered.get(pid).copied().unwrap_or(*pid);
        next.interval.vcpus.iter_mut().for_each(|vcpu| number(&mut vcpu.thread.pid));
        next.steps.iter_mut().flat_map(|step| &mut step.counts).for_each(|c| number(&mut c.pid));
        next.maps = std::mem::take(&mut next.maps)
            .into_iter()
            .map(|(mut pid, map)| {
                number(&mut pid);
                (pid, map)
            })
            .collect();
    }
}

impl Places {
    fn of(sum: &Measurement) -> Self {
        let vcpus = sum.interval.vcpus.iter().enumerate();
        Self {
            vms: sum.vms.iter().enumerate().map(|(at, vm)| (vm.pid, at)).collect(),
            vcpus: vcpus.map(|(at, vcpu)| (vcpu.thread, at)).collect(),
        }
    }
}

/// Counts in the last step of a sum, which are gone through when another step is added to it.
fn sum_counts(sum: Option<&Measurement>) -> u64 {
    sum.and_then(|sum| sum.steps.last()).map_or(0, |step| step.counts.len() as u64)
}

/// Steps of a recording; one step for the whole if it has none.
fn steps_of(recording: &mut Measurement) -> Vec<Step> {
    let steps = std::mem::take(&mut recording.steps);
    if steps.is_empty() { vec![Step::of(&recording.interval)] } else { steps }
}

/// Merges pairs of steps; an odd last one remains.
fn halve(steps: &mut Vec<Step>) {
    let mut all = std::mem::take(steps).into_iter();
    while let Some(mut one) = all.next() {
        if let Some(other) = all.next() {
            one.extend(other);
        }
        steps.push(one);
    }
}

impl Measurement {
    /// Time between the end of this recording and the start of a later one; zero if unknown.
    fn gap_before(&self, next: &Self) -> Duration {
        let length = Duration::from_nanos(self.interval.length_ns());
        match (&self.began, &next.began) {
            // The monotonic clock is never set.
            (Some(one), Some(other)) if one.boot == other.boot => {
                let end = Duration::from_nanos(one.ns).saturating_add(length);
                Duration::from_nanos(other.ns).saturating_sub(end)
            }
            _ => {
                let end = self.start.and_then(|start| start.checked_add(length));
                let gap = next.start.zip(end).and_then(|(next, end)| next.duration_since(end).ok());
                gap.unwrap_or_default()
            }
        }
    }

    /// Adds a later recording after a gap of `gap_ns` nanoseconds, except for its steps.
    fn extend(&mut self, next: Self, gap_ns: u64, places: &mut Places) {
        let Self {
            version,
            host,
            start: _,
            began: _,
            interrupted,
            timing,
            sampling,
            events,
            reasons,
            vms,
            maps,
            interval,
            steps: _,
        } = next;
        let shares = self.timing.shares(timing);
        self.version = version;
        self.host = host;
        self.interrupted |= interrupted;
        self.timing = self.timing.and(timing);
        self.sampling = SamplingCost::sum(self.sampling, sampling);
        self.events.extend(events);
        self.reasons.extend(reasons);
        for vm in vms {
            match places.vms.get(&vm.pid).and_then(|&at| self.vms.get_mut(at)) {
                Some(known) => known.update(vm),
                None => {
                    places.vms.insert(vm.pid, self.vms.len());
                    self.vms.push(vm);
                }
            }
        }
        for (pid, map) in maps {
            match self.maps.get_mut(&pid) {
                Some(known) => known.extend(map),
                None => drop(self.maps.insert(pid, map)),
            }
        }
        self.interval.extend_with(interval, gap_ns, shares, &mut places.vcpus);
    }
}
