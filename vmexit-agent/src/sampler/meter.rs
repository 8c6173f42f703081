//! CPU time of the agent and of the VMs.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::MaybeUninit,
};

use crate::probe::now_ns;

/// CPU times and rate of exits in an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Length of the interval, nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of the VMs, nanoseconds.
    pub vms_ns: u64,
    /// CPU time of the agent, nanoseconds.
    pub agent_ns: u64,
    /// Exits per nanosecond.
    pub exits_per_ns: f64,
}

impl Load {
    /// CPUs that the VMs used on average.
    pub(super) fn cores(&self) -> f64 {
        self.vms_ns as f64 / (self.elapsed_ns as f64).max(1.0)
    }

    /// CPUs that the agent used on average.
    pub(super) fn agent_cores(&self) -> f64 {
        self.agent_ns as f64 / (self.elapsed_ns as f64).max(1.0)
    }
}

/// Reader of CPU clocks, with the last reading.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    at_ns: u64,
    agent_ns: u64,
    vms: BTreeMap<u32, u64>,
}

impl Meter {
    pub(super) fn start(pids: &BTreeSet<u32>) -> Self {
        Self { at_ns: now_ns(), agent_ns: cpu_ns(0).unwrap_or(0), vms: vms(pids) }
    }

    /// Load since the previous call; its rate of exits is the one given.
    pub(super) fn load(&mut self, pids: &BTreeSet<u32>, exits_per_ns: f64) -> Load {
        let before = std::mem::replace(self, Self::start(pids));
        let took = |(pid, ns): (&u32, &u64)| {
            // A new VM counts from the next call on.
            ns.saturating_sub(before.vms.get(pid).copied().unwrap_or(*ns))
        };
        Load {
            elapsed_ns: self.at_ns.saturating_sub(before.at_ns),
            vms_ns: self.vms.iter().map(took).sum(),
            agent_ns: self.agent_ns.saturating_sub(before.agent_ns),
            exits_per_ns,
        }
    }
}

fn vms(pids: &BTreeSet<u32>) -> BTreeMap<u32, u64> {
    pids.iter().filter_map(|&pid| Some((pid, cpu_ns(pid)?))).collect()
}

/// CPU time of a process with all its threads, nanoseconds; 0 means this process. Read from the clock of the process
/// (`clock_getcpuclockid(3)`), which needs no capability and one system call, where `/proc` needs three and has a
/// resolution of 10 ms.
fn cpu_ns(pid: u32) -> Option<u64> {
    /// `CPUCLOCK_SCHED` in include/linux/posix-timers.h: the third clock of a process.
    const SCHED: i32 = 2;
    let clock = (!i32::try_from(pid).ok()?) << 3 | SCHED;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: on success the kernel has written the whole struct.
    let time = unsafe {
        if libc::clock_gettime(clock, time.as_mut_ptr()) != 0 {
            return None;
        }
        time.assume_init()
    };
    Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn cpu_ns_of_missing_process_is_none() {
        let own = cpu_ns(0).unwrap();
        let named = cpu_ns(process::id()).unwrap();
        assert!(own > 0 && named >= own && named - own < 1_000_000_000, "{own} {named}");
        assert_eq!(cpu_ns(u32::MAX), None);
        assert_eq!(cpu_ns((1 << 22) + 5), None);
    }

    #[test]
    fn load_of_vm_counts_only_while_known() {
        let me: BTreeSet<u32> = [process::id()].into();
        let mut meter = Meter::start(&BTreeSet::new());
        assert_eq!(meter.load(&me, 0.0).vms_ns, 0);
        let mut sum = 0_u64;
        (0..10_000_000).for_each(|n| sum = std::hint::black_box(sum + n));
        let load = meter.load(&me, 0.0);
        assert!(load.vms_ns > 0 && load.agent_ns > 0 && load.elapsed_ns > 0, "{load:?}");
        assert_eq!(meter.load(&BTreeSet::new(), 0.0).vms_ns, 0);
    }
}
