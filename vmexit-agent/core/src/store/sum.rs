//! Recordings that follow one another, as one. They are of one host, but what they were told apart by may have
//! come back meanwhile: process ids go to other VMs, most of all when the host is started again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::check::{self, Amounts};
use crate::{counters::Step, measurement::Measurement, sampling::SamplingCost, vm};

/// Steps of a sum at most: when there are more, each two become one.
const MOST_STEPS: usize = 240;

/// No process has such a number (`PID_MAX_LIMIT`, include/linux/threads.h): from here on VMs are numbered whose
/// own number another VM had before them.
const FIRST_ALIAS: u32 = (1 << 22) + 1;

/// Recordings of one host in the order of time, summed up.
#[derive(Debug, Default)]
pub struct MeasurementSum {
    sum: Option<Measurement>,
    /// What VMs go by that don't go by their own number.
    aliases: HashMap<Identity, u32>,
    /// How many steps of the recordings there are in each of the sum's; 0 as long as there is one recording.
    steps_in_one: usize,
    /// In the last of these.
    steps_in_last: usize,
    together: Amounts,
}

/// What tells a VM from another that has the same process id at another time.
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
    /// Adds the next recording.
    ///
    /// # Errors
    /// It is more than a report can have; as the end of a sentence.
    pub fn add(&mut self, mut next: Measurement) -> Result<(), &'static str> {
        self.together.add(&next)?;
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
        if self.steps_in_one == 0 {
            self.steps_in_one = 1;
            let steps = steps_of(&mut sum);
            self.add_steps(&mut sum.steps, steps);
        }
        self.tell_apart(&sum, &mut next);
        let steps = steps_of(&mut next);
        let gap = sum.until(&next);
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

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.sum.is_none()
    }

    /// All until now; `None` if there was nothing.
    pub fn get(&self) -> Option<&Measurement> {
        self.sum.as_ref()
    }

    /// All of it; `None` if there was nothing.
    pub fn finish(self) -> Option<Measurement> {
        self.sum
    }

    /// Adds steps; as many are put together as it takes for a day to have no more than a few minutes have.
    fn add_steps(&mut self, steps: &mut Vec<Step>, next: Vec<Step>) {
        for step in next {
            match steps.last_mut() {
                Some(last) if self.steps_in_last < self.steps_in_one => last.extend(step),
                _ => {
                    steps.push(step);
                    self.steps_in_last = 0;
                }
            }
            self.steps_in_last += 1;
            if steps.len() > MOST_STEPS {
                halve(steps);
                // The last one was odd, and has what it had.
                self.steps_in_one *= 2;
            }
        }
    }

    /// Gives VMs another number whose own is another VM's in the sum.
    fn tell_apart(&mut self, sum: &Measurement, next: &mut Measurement) {
        let taken: HashMap<u32, Identity> =
            sum.vms.iter().map(|vm| (vm.pid, Identity::of(vm))).collect();
        // Beyond all that there are, for a recording may be such a sum itself.
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

/// The steps of a recording; one of the whole where it has none.
fn steps_of(recording: &mut Measurement) -> Vec<Step> {
    let steps = std::mem::take(&mut recording.steps);
    if steps.is_empty() { vec![Step::of(&recording.interval)] } else { steps }
}

/// Each two as one; an odd one at the end stays.
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
    /// What lies between its end and the beginning of a later one; nothing if that is not known.
    fn until(&self, next: &Self) -> Duration {
        let length = Duration::from_nanos(self.interval.length_ns());
        match (&self.began, &next.began) {
            // A clock that is set has no part in it.
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

    /// Adds a later one, after so many nanoseconds of which nothing is known; but for the steps.
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
