//! Selection of VMs by `--vm` and `--qmp`.

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

/// Fewest vCPUs to reserve stats blocks for.
const MIN_VCPUS: u32 = 64;

/// Selected VMs: those running at the start, and those that start later.
pub(crate) struct Guests {
    /// Process IDs selected by `--vm`; `None` for all.
    pub(crate) filter: Option<BTreeSet<u32>>,
    /// VMs by process ID. Those that have ended stay, as reports may still have their exits.
    pub(crate) known: BTreeMap<u32, Vm>,
}

impl Guests {
    /// Running VMs that `--vm` selects, all without it. `--qmp` sets the socket of the selected VM.
    ///
    /// # Errors
    /// No VM is running, `--vm` matches none, or `--qmp` is given for several VMs.
    pub(crate) fn find(wanted: &WatchArgs) -> Result<Self, Error> {
        Self::select(running()?.vms, wanted)
    }

    /// As [`Self::find`], but without `--vm`, no VM needs to be running.
    ///
    /// # Errors
    /// Those of [`Self::find`], but for no running VM.
    pub(crate) fn find_or_none(wanted: &WatchArgs) -> Result<Self, Error> {
        match running() {
            Err(Error::NoVm) if wanted.vms.is_empty() => Self::select(Vec::new(), wanted),
            running => Self::select(running?.vms, wanted),
        }
    }

    /// Selects from the running VMs.
    fn select(running: Vec<Vm>, wanted: &WatchArgs) -> Result<Self, Error> {
        let filter = match wanted.vms.as_slice() {
            [] => None,
            wanted => Some(resolve(&running, wanted)?),
        };
        let mut guests = Self { filter, known: BTreeMap::new() };
        guests.add(running);
        if let Some(socket) = &wanted.devices.qmp {
            guests.set_qmp_socket(socket)?;
        }
        Ok(guests)
    }

    fn add(&mut self, vms: Vec<Vm>) {
        let wanted = |vm: &Vm| self.filter.as_ref().is_none_or(|pids| pids.contains(&vm.pid));
        let vms = vms.into_iter().filter(wanted).map(|vm| (vm.pid, vm));
        self.known.extend(vms.collect::<Vec<_>>());
    }

    /// Adds the VMs of these process IDs that are not known yet, and returns them. `pids` are processes with exits; no
    /// other process is searched. A VM that starts and ends between two calls is counted, but has no name.
    pub(crate) fn add_new(&mut self, pids: &BTreeSet<u32>) -> Vec<Vm> {
        if self.filter.is_some() {
            // All selected VMs were running at the start.
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

    /// Process IDs of VMs that have ended and are not in the last reading. A VM in it may be in the next reading too,
    /// with its last exits.
    pub(crate) fn ended(&self, seen: &BTreeSet<u32>) -> Vec<u32> {
        let unseen = self.known.keys().filter(|pid| !seen.contains(pid));
        unseen.copied().filter(|&pid| !discover::is_running(pid)).collect()
    }

    /// Replaces the monitors of the one selected VM by a QMP socket.
    fn set_qmp_socket(&mut self, socket: &Path) -> Result<(), Error> {
        let mut vms = self.known.values_mut();
        let (Some(vm), None) = (vms.next(), vms.next()) else { return Err(Error::QmpNeedsOneVm) };
        vm.monitors = vec![Monitor::Qmp(Address::Here(socket.to_owned()))];
        Ok(())
    }

    /// Number of stats blocks to reserve: twice the vCPUs that run now, as VMs may start later.
    pub(crate) fn vcpu_capacity(&self) -> u32 {
        let vcpus: usize = self.known.values().map(|vm| vm.vcpus).sum();
        u32::try_from(2 * vcpus).unwrap_or(u32::MAX).clamp(MIN_VCPUS, MAX_VCPUS)
    }
}

/// Running VMs of this host.
///
/// # Errors
/// `/proc` can't be read, or no VM is running or visible.
pub(crate) fn running() -> Result<FoundVms, Error> {
    let found = discover::find_all()?;
    match found.vms.as_slice() {
        [] if found.is_blind() => Err(Error::HiddenVms(found.hidden)),
        [] => Err(Error::NoVm),
        _ => Ok(found),
    }
}

/// Process IDs of a recording's VMs that `--vm` matches; may be empty.
pub(crate) fn matching_pids(recording: &Measurement, wanted: &[String]) -> BTreeSet<u32> {
    let all = recording.all_vms();
    let matching = all.iter().filter(|vm| wanted.iter().any(|wanted| vm.matches(wanted)));
    matching.map(|vm| vm.pid).collect()
}

/// Process IDs of the VMs that `--vm` matches. A name matches all VMs that have it.
///
/// # Errors
/// A name or process ID matches no VM.
pub(crate) fn resolve(vms: &[Vm], wanted: &[String]) -> Result<BTreeSet<u32>, Error> {
    let mut pids = BTreeSet::new();
    for wanted in wanted {
        let mut matching = vms.iter().filter(|vm| vm.matches(wanted)).peekable();
        if matching.peek().is_none() {
            let known: Vec<String> =
                vms.iter().map(|vm| format!("{} ({})", escape::safe(&vm.name), vm.pid)).collect();
            return Err(Error::UnknownVm { wanted: escape::safe(wanted), known: known.join(", ") });
        }
        pids.extend(matching.map(|vm| vm.pid));
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn ended_excludes_vms_of_last_reading() {
        // Process IDs are never that high.
        let (runs, ended) = (process::id(), u32::MAX);
        let known = [runs, ended].map(|pid| (pid, Vm { pid, ..Vm::default() })).into();
        let guests = Guests { filter: None, known };
        assert!(guests.ended(&[runs, ended].into()).is_empty());
        assert_eq!(guests.ended(&BTreeSet::new()), [ended]);
    }
}
