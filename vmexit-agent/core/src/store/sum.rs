//! Sums of consecutive measurements of one host. Process IDs may be reused by other VMs between them,
//! especially after a reboot.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::check::{self, Amounts};
use crate::{counters::Step, measurement::Measurement, sampling::SamplingCost, vm};

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
}

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
        self.amounts.add(&next)?;
        if let Some(sum) = &self.sum {
            check::limits(
                sum.vms.len() + next.vms.len(),
                sum.interval.vcpus.len() + next.interval.vcpus.len(),
            )?;
        }
        let Some(mut sum) = self.sum.take() else {
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
        sum.extend(next, gap_ns);
        self.sum = Some(sum);
        Ok(())
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
        let taken: HashMap<u32, Identity> =
            sum.vms.iter().map(|vm| (vm.pid, Identity::of(vm))).collect();
        // Above all existing aliases: the next measurement may itself be a sum.
        let pids = taken.keys().copied().chain(next.vms.iter().map(|vm| vm.pid));
        let mut free = pids.fold(FIRST_ALIAS, |free, pid| free.max(pid.saturating_add(1)));
        let mut renumbered: BTreeMap<u32, u32> = BTreeMap::new();
        for vm in &mut next.vms {
            let identity = Identity::of(vm);
            if taken.get(&vm.pid).is_none_or(|known| *known == identity) {
                continue;
            }
            let alias = *self.aliases.entry(identity).or_insert(free);
            free = free.max(alias.saturating_add(1));
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
    fn extend(&mut self, next: Self, gap_ns: u64) {
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
            match self.vms.iter_mut().find(|known| known.pid == vm.pid) {
                Some(known) => known.update(vm),
                None => self.vms.push(vm),
            }
        }
        for (pid, map) in maps {
            match self.maps.get_mut(&pid) {
                Some(known) => known.extend(map),
                None => drop(self.maps.insert(pid, map)),
            }
        }
        self.interval.extend(interval, gap_ns, shares);
    }
}
