//! A measurement: the raw counters of an interval, and everything needed to report them on any
//! machine: the VMs, the host's names of exit codes, the devices of the VMs. It is made by a
//! capture or read from a [file](mod@crate::store::file).

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
    /// The host.
    pub host: Host,
    /// Start by the wall clock; `None` if unknown.
    #[serde(with = "time")]
    pub start: Option<SystemTime>,
    /// Start by the kernel's monotonic clock; `None` unless measured by vmexit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Began>,
    /// Whether the measurement was ended early.
    pub interrupted: bool,
    /// Exits that were timed.
    pub timing: Timing,
    /// CPU time spent on measuring; `None` without a budget.
    #[serde(default, alias = "spent", skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingCost>,
    /// Events captured.
    pub events: BTreeSet<Event>,
    /// The host's names of exit codes.
    pub reasons: Names,
    /// VMs whose process is known.
    pub vms: Vec<vm::Vm>,
    /// Address maps of VMs, by process ID.
    pub maps: BTreeMap<u32, Map>,
    /// Counters.
    pub interval: Interval,
    /// Parts of the interval, in order and without gaps; empty if only the whole is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// A time on the kernel's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Began {
    /// The kernel's `boot_id`.
    pub boot: String,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ns: u64,
}

/// Version of this vmexit.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Measurement {
    /// The same measurement with those of `names` that its exit codes need.
    #[must_use]
    pub fn with_reasons(mut self, names: &Names) -> Self {
        let (vcpus, vendor) = (&self.interval.vcpus, self.host.vendor);
        self.reasons = names.subset(vcpus.iter().flat_map(|vcpu| {
            let vendor = Vendor::of_isa(vcpu.isa).or(vendor);
            let codes = vcpu.reasons.iter().filter(|row| row.key.kind() == Some(Kind::Reason));
            codes.filter_map(move |row| Some((vendor?, row.key.value() as u32)))
        }));
        self
    }

    /// Takes over the address maps of `maps`, reduced to the ports and addresses accessed. Maps of
    /// other VMs stay: they are of VMs that have ended.
    pub fn update_maps(&mut self, maps: &BTreeMap<u32, Map>) {
        for (&pid, map) in maps {
            self.maps.insert(pid, self.accessed_part(pid, map));
        }
    }

    fn accessed_part(&self, pid: u32, map: &Map) -> Map {
        let (mut ports, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        let vcpus = self.interval.vcpus.iter().filter(|vcpu| vcpu.thread.pid == pid);
        for key in vcpus.flat_map(|vcpu| &vcpu.details).map(|row| row.key) {
            match key.kind() {
                Some(Kind::Pio) => drop(ports.insert(key.value() as u16)),
                Some(Kind::Mmio | Kind::FastMmio) => drop(addresses.insert(key.value())),
                _ => {}
            }
        }
        map.subset(&ports, &addresses)
    }

    /// Process IDs of VMs that accessed an address where QEMU, when asked, had no region: their map
    /// is out of date.
    pub fn pids_with_unassigned(&self) -> BTreeSet<u32> {
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

    /// Removes all VMs but these, by process ID.
    pub fn retain_vms(&mut self, pids: &BTreeSet<u32>) {
        self.vms.retain(|vm| pids.contains(&vm.pid));
        self.maps.retain(|pid, _| pids.contains(pid));
        self.interval.vcpus.retain(|vcpu| pids.contains(&vcpu.thread.pid));
        for step in &mut self.steps {
            step.counts.retain(|count| pids.contains(&count.pid));
        }
    }

    /// Removes the rows of all events but these.
    pub fn retain_events(&mut self, events: &BTreeSet<Event>) {
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

    /// All VMs, including those whose process is unknown, which are named by process ID.
    pub fn all_vms(&self) -> Vec<vm::Vm> {
        let mut vms = self.vms.clone();
        let named: BTreeSet<u32> = vms.iter().map(|vm| vm.pid).collect();
        let all: BTreeSet<u32> = self.interval.vcpus.iter().map(|vcpu| vcpu.thread.pid).collect();
        vms.extend(all.difference(&named).map(|&pid| vm::Vm {
            pid,
            name: vm::fallback_name(pid),
            ..vm::Vm::default()
        }));
        vms
    }
}

/// Serialization of a time as RFC 3339, to the millisecond.
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
