//! The VMs that a command is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use vmexit_common::vcpu::MAX_VCPUS;
use vmexit_core::{
    escape,
    measurement::Measurement,
    vm::{Address, FoundVms, Monitor, Vm},
};

use crate::{args::WatchArgs, discover, error::Error};

/// Room for vCPUs where few or none run yet.
const FEWEST_VCPUS: u32 = 64;

/// The VMs of a capture or trace: those at its start, and those that come while it runs.
pub(crate) struct Guests {
    /// Process ids asked for by `--vm`; `None` for all.
    pub(crate) filter: Option<BTreeSet<u32>>,
    /// By process id. Kept when a VM ends: what it did is still to be reported.
    pub(crate) known: BTreeMap<u32, Vm>,
}

impl Guests {
    /// Those that `--vm` means, all if it was not given; `--qmp` is where to ask the one that it means.
    pub(crate) fn find(wanted: &WatchArgs) -> Result<Self, Error> {
        Self::among(running()?.vms, wanted)
    }

    /// As [`Self::find`], but there may be none yet, unless some were asked for.
    pub(crate) fn find_or_wait(wanted: &WatchArgs) -> Result<Self, Error> {
        match running() {
            Err(Error::NoVm) if wanted.vms.is_empty() => Self::among(Vec::new(), wanted),
            running => Self::among(running?.vms, wanted),
        }
    }

    fn among(running: Vec<Vm>, wanted: &WatchArgs) -> Result<Self, Error> {
        let filter = match wanted.vms.as_slice() {
            [] => None,
            wanted => Some(choose(&running, wanted)?),
        };
        let mut guests = Self { filter, known: BTreeMap::new() };
        guests.add(running);
        if let Some(socket) = &wanted.devices.qmp {
            guests.ask_at(socket)?;
        }
        Ok(guests)
    }

    fn add(&mut self, vms: Vec<Vm>) {
        let wanted = |vm: &Vm| self.filter.as_ref().is_none_or(|pids| pids.contains(&vm.pid));
        let vms = vms.into_iter().filter(wanted).map(|vm| (vm.pid, vm));
        self.known.extend(vms.collect::<Vec<_>>());
    }

    /// Notes VMs that have come since, and returns them, by the processes whose exits were seen: nobody
    /// else in `/proc` is looked at. One that comes and goes between two looks is still counted, only
    /// nameless.
    pub(crate) fn note(&mut self, pids: &BTreeSet<u32>) -> Vec<Vm> {
        if self.filter.is_some() {
            // Those asked for were all there at the start.
            return Vec::new();
        }
        let new: Vec<Vm> = pids
            .iter()
            .filter(|pid| !self.known.contains_key(pid))
            .filter_map(|&pid| discover::find(pid))
            .collect();
        self.add(new.clone());
        new
    }

    /// Those that have ended and are not among the processes of the last reading. One that is may be in the next
    /// too, with what it did between that reading and its end.
    pub(crate) fn ended(&self, seen: &BTreeSet<u32>) -> Vec<u32> {
        let unseen = self.known.keys().filter(|pid| !seen.contains(pid));
        unseen.copied().filter(|&pid| !discover::is_running(pid)).collect()
    }

    /// Asks the one VM that was chosen at this socket and nowhere else.
    fn ask_at(&mut self, socket: &Path) -> Result<(), Error> {
        let mut vms = self.known.values_mut();
        let (Some(vm), None) = (vms.next(), vms.next()) else { return Err(Error::OneQmpSocket) };
        vm.monitors = vec![Monitor::Qmp(Address::Here(socket.to_owned()))];
        Ok(())
    }

    /// Twice the vCPUs that run now: VMs start while we look.
    pub(crate) fn room(&self) -> u32 {
        let vcpus: usize = self.known.values().map(|vm| vm.vcpus).sum();
        u32::try_from(2 * vcpus).unwrap_or(u32::MAX).clamp(FEWEST_VCPUS, MAX_VCPUS)
    }
}

/// The VMs of this host, one at least.
pub(crate) fn running() -> Result<FoundVms, Error> {
    let found = discover::find_all()?;
    match found.vms.as_slice() {
        [] if found.is_blind() => Err(Error::HiddenVms(found.hidden)),
        [] => Err(Error::NoVm),
        _ => Ok(found),
    }
}

/// Those of a recording that `--vm` means, by process id; there may be none.
pub(crate) fn meant(recording: &Measurement, wanted: &[String]) -> BTreeSet<u32> {
    let all = recording.all_vms();
    let meant = all.iter().filter(|vm| wanted.iter().any(|wanted| vm.matches(wanted)));
    meant.map(|vm| vm.pid).collect()
}

/// The process ids that `--vm` means. A name that several VMs have means all of them.
pub(crate) fn choose(vms: &[Vm], wanted: &[String]) -> Result<BTreeSet<u32>, Error> {
    let mut pids = BTreeSet::new();
    for wanted in wanted {
        let mut meant = vms.iter().filter(|vm| vm.matches(wanted)).peekable();
        if meant.peek().is_none() {
            let known: Vec<String> =
                vms.iter().map(|vm| format!("{} ({})", escape::safe(&vm.name), vm.pid)).collect();
            return Err(Error::UnknownVm { wanted: escape::safe(wanted), known: known.join(", ") });
        }
        pids.extend(meant.map(|vm| vm.pid));
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn one_that_has_ended_is_known_until_nothing_comes_of_it() {
        // No process has such a number.
        let (runs, ended) = (process::id(), u32::MAX);
        let known = [runs, ended].map(|pid| (pid, Vm { pid, ..Vm::default() })).into();
        let guests = Guests { filter: None, known };
        assert!(guests.ended(&[runs, ended].into()).is_empty());
        assert_eq!(guests.ended(&BTreeSet::new()), [ended]);
    }
}
