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

use crate::{
    args::WatchArgs,
    discover::{self, Finder, MAX_COMMAND_LINE},
    error::Error,
};

/// Fewest vCPUs to reserve stats blocks for.
const MIN_VCPUS: u32 = 64;

/// Selected VMs: those running at the start, and those that start later.
pub(crate) struct Guests {
    /// Process IDs selected by `--vm`; `None` for all.
    pub(crate) filter: Option<BTreeSet<u32>>,
    /// VMs by process ID. Those that have ended stay, as reports may still have their exits.
    pub(crate) known: BTreeMap<u32, Vm>,
    finder: Finder,
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
        let mut guests = Self { filter, known: BTreeMap::new(), finder: Finder::default() };
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
    /// other process is searched. A VM that takes long to find is added by a later call. One that starts and ends between
    /// two calls is counted, but has no name.
    pub(crate) fn add_new(&mut self, pids: &BTreeSet<u32>) -> Vec<Vm> {
        if self.filter.is_some() {
            // All selected VMs were running at the start.
            return Vec::new();
        }
        let unknown: Vec<u32> =
            pids.iter().copied().filter(|pid| !self.known.contains_key(pid)).collect();
        let new = self.finder.find(&unknown);
        warn_of_long_command_lines(&new);
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
    warn_of_long_command_lines(&found.vms);
    match found.vms.as_slice() {
        [] if found.is_blind() => Err(Error::HiddenVms(found.denied)),
        [] => Err(Error::NoVm),
        _ => Ok(found),
    }
}

/// Logs one warning if there are command lines of which only the beginning is read.
fn warn_of_long_command_lines(vms: &[Vm]) {
    let mut long = vms.iter().filter(|vm| vm.command_line_cut);
    let Some(first) = long.next() else { return };
    let more = match long.count() {
        0 => String::new(),
        more => format!(", and those of {more} more"),
    };
    log::warn!(
        "the command line of process {}{more} is longer than {} KiB: only its beginning is read, which may lack the \
         VM's name and monitor",
        first.pid,
        MAX_COMMAND_LINE >> 10
    );
}

/// Process IDs of a recording's VMs that `--vm` matches; may be empty.
pub(crate) fn matching_pids(recording: &Measurement, wanted: &[String]) -> BTreeSet<u32> {
    let all = recording.all_vms();
    wanted.iter().flat_map(|wanted| matching(&all, wanted)).map(|vm| vm.pid).collect()
}

/// Process IDs of the VMs that `--vm` matches. A name matches all VMs that have it. A process ID matches only that
/// process: the owner of a VM could choose another's process ID for its name, and must not get into its report.
///
/// # Errors
/// A name or process ID matches no VM.
pub(crate) fn resolve(vms: &[Vm], wanted: &[String]) -> Result<BTreeSet<u32>, Error> {
    let mut pids = BTreeSet::new();
    for wanted in wanted {
        let found = matching(vms, wanted);
        if found.is_empty() {
            let known: Vec<String> =
                vms.iter().map(|vm| format!("{} ({})", escape::safe(&vm.name), vm.pid)).collect();
            return Err(Error::UnknownVm { wanted: escape::safe(wanted), known: known.join(", ") });
        }
        warn_of_namesakes(vms, wanted, &found);
        pids.extend(found.into_iter().map(|vm| vm.pid));
    }
    Ok(pids)
}

/// VMs that an argument of `--vm` denotes: the process with this ID, else all VMs with this name.
fn matching<'a>(vms: &'a [Vm], wanted: &str) -> Vec<&'a Vm> {
    let pid: Option<u32> = wanted.parse().ok();
    let by_pid: Vec<&Vm> = vms.iter().filter(|vm| Some(vm.pid) == pid).collect();
    if by_pid.is_empty() { vms.iter().filter(|vm| vm.has_name(wanted)).collect() } else { by_pid }
}

/// Logs a warning if VMs have the ID of the process that was found as their name.
fn warn_of_namesakes(vms: &[Vm], wanted: &str, found: &[&Vm]) {
    let is_other = |vm: &&Vm| vm.has_name(wanted) && found.iter().all(|found| found.pid != vm.pid);
    let mut namesakes = vms.iter().filter(is_other);
    if let (Some(namesake), Some(found)) = (namesakes.next(), found.first()) {
        log::warn!(
            "--vm {}: this is process {}, the VM {}; process {}, whose VM has that number as its name, is left out",
            escape::safe(wanted),
            found.pid,
            escape::safe(&found.name),
            namesake.pid
        );
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use vmexit_core::vm::bounded_name;

    use super::*;

    #[test]
    fn ended_excludes_vms_of_last_reading() {
        // Process IDs are never that high.
        let (runs, ended) = (process::id(), u32::MAX);
        let known = [runs, ended].map(|pid| (pid, Vm { pid, ..Vm::default() })).into();
        let guests = Guests { filter: None, known, finder: Finder::default() };
        assert!(guests.ended(&[runs, ended].into()).is_empty());
        assert_eq!(guests.ended(&BTreeSet::new()), [ended]);
    }

    fn named(pid: u32, name: &str) -> Vm {
        Vm { pid, name: name.into(), ..Vm::default() }
    }

    #[test]
    fn process_id_wins_over_name_of_another_vm() {
        let vms = [named(7, "web"), named(8, "7"), named(9, "db"), named(10, "db")];
        let of = |wanted: &str| Vec::from_iter(resolve(&vms, &[wanted.to_owned()]).unwrap());
        assert_eq!(of("7"), [7]);
        assert_eq!(of("db"), [9, 10]);
        assert!(resolve(&vms, &["11".into()]).is_err());
        // Without that process it is a name.
        assert_eq!(Vec::from_iter(resolve(&vms[1..], &["7".into()]).unwrap()), [8]);
    }

    #[test]
    fn long_name_selects_vm_with_bounded_name() {
        let [name, other] = ["a", "b"].map(|end| "x".repeat(1000) + end);
        let vms = [named(7, &bounded_name(&name)), named(8, &bounded_name(&other))];
        assert_eq!(Vec::from_iter(resolve(&vms, &[name]).unwrap()), [7]);
    }
}
