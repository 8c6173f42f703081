//! One interval with all that it takes to put it into words on any machine: raw counters, and beside them
//! what only the host could tell: who the VMs are, what exit codes are called there, which devices
//! the VMs have. Commands make one of what they measured, or read it from a [file](mod@file).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use vmexit_common::key::Kind;

use crate::{
    counters::{Interval, Step},
    device::Map,
    event::Event,
    host::Host,
    kind,
    reason::Names,
    sampling::SamplingCost,
    timing::Timing,
    vendor::Vendor,
    vm,
};

/// An interval and its circumstances.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Measurement {
    /// Version of vmexit that measured it.
    #[serde(rename = "vmexit")]
    pub version: String,
    /// Where.
    pub host: Host,
    /// When it began; `None` where that is not known.
    #[serde(with = "time")]
    pub start: Option<SystemTime>,
    /// The same by a clock that nobody sets, where it was measured by vmexit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Began>,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Which exits were timed.
    pub timing: Timing,
    /// What measuring has taken, where there was a budget for it.
    #[serde(default, alias = "spent", skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingCost>,
    /// What was captured.
    pub events: BTreeSet<Event>,
    /// What that host calls the exit codes.
    pub reasons: Names,
    /// Who the processes are; one that nobody could name goes by its number.
    pub vms: Vec<vm::Vm>,
    /// What is known of the address spaces of VMs, by process id.
    pub maps: BTreeMap<u32, Map>,
    /// What was counted.
    pub interval: Interval,
    /// The parts of the interval, in their order and without gaps; none where only the whole is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// When something began, by the kernel's own clock.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Began {
    /// Which run of the kernel: its `boot_id`.
    pub boot: String,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ns: u64,
}

/// Version of vmexit that measures.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Measurement {
    /// The same with only those names of exit reasons that it needs.
    #[must_use]
    pub fn with_reasons(mut self, names: &Names) -> Self {
        let (vcpus, vendor) = (&self.interval.vcpus, self.host.vendor);
        self.reasons = names.only(vcpus.iter().flat_map(|vcpu| {
            let vendor = Vendor::of_isa(vcpu.isa).or(vendor);
            let codes = vcpu.reasons.iter().filter(|row| row.key.kind() == Some(Kind::Reason));
            codes.filter_map(move |row| Some((vendor?, row.key.value() as u32)))
        }));
        self
    }

    /// Takes over what is now known of VMs' address spaces, as far as it needs that.
    pub fn learn(&mut self, known: &BTreeMap<u32, Map>) {
        // What is known of VMs that have been forgotten since stays.
        for (&pid, map) in known {
            self.maps.insert(pid, self.what_it_needs(pid, map));
        }
    }

    fn what_it_needs(&self, pid: u32, map: &Map) -> Map {
        let (mut ports, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        let vcpus = self.interval.vcpus.iter().filter(|vcpu| vcpu.thread.pid == pid);
        for key in vcpus.flat_map(|vcpu| &vcpu.details).map(|row| row.key) {
            match key.kind() {
                Some(Kind::Pio) => drop(ports.insert(key.value() as u16)),
                Some(Kind::Mmio | Kind::FastMmio) => drop(addresses.insert(key.value())),
                _ => {}
            }
        }
        map.only(&ports, &addresses)
    }

    /// Process ids of VMs whose guests accessed an address where QEMU, when asked, had nothing: it has to be asked again.
    pub fn with_unassigned(&self) -> BTreeSet<u32> {
        let mut pids = BTreeSet::new();
        for vcpu in &self.interval.vcpus {
            let pid = vcpu.thread.pid;
            let Some(map) = self.maps.get(&pid).filter(|_| !pids.contains(&pid)) else { continue };
            if vcpu.details.iter().any(|row| map.is_unassigned(row.key)) {
                pids.insert(pid);
            }
        }
        pids
    }

    /// Leaves only these VMs, by process id.
    pub fn keep_vms(&mut self, pids: &BTreeSet<u32>) {
        self.vms.retain(|vm| pids.contains(&vm.pid));
        self.maps.retain(|pid, _| pids.contains(pid));
        self.interval.vcpus.retain(|vcpu| pids.contains(&vcpu.thread.pid));
        for step in &mut self.steps {
            step.counts.retain(|count| pids.contains(&count.pid));
        }
    }

    /// Leaves only what these events have told.
    pub fn keep_events(&mut self, events: &BTreeSet<Event>) {
        self.events.retain(|event| events.contains(event));
        for vcpu in &mut self.interval.vcpus {
            vcpu.details.retain(|row| {
                row.key.table().is_some_and(|kind| events.contains(&kind::event(kind)))
            });
        }
        let is_kept = |kind| kind == Kind::Reason || events.contains(&kind::event(kind));
        for step in &mut self.steps {
            step.counts.retain(|count| count.key.table().is_some_and(is_kept));
        }
    }

    /// The VMs, also those that nobody could name.
    pub fn guests(&self) -> Vec<vm::Vm> {
        let mut guests = self.vms.clone();
        let named: BTreeSet<u32> = guests.iter().map(|vm| vm.pid).collect();
        let all: BTreeSet<u32> = self.interval.vcpus.iter().map(|vcpu| vcpu.thread.pid).collect();
        guests.extend(all.difference(&named).map(|&pid| vm::Vm {
            pid,
            name: vm::nameless(pid),
            ..vm::Vm::default()
        }));
        guests
    }
}

/// A time as RFC 3339, to the millisecond.
mod time {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(&humantime::format_rfc3339_millis(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_rfc3339(&text).map_err(de::Error::custom)).transpose()
    }
}
