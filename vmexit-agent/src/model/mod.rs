//! What an interval means: VMs, their exit reasons and ports with names, shares and percentiles.
//! Every output is a rendering of one [`Report`]; the JSON output is the report itself.

mod build;
mod stats;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::{
    build::{Sources, build},
    stats::{Bucket, Stats},
};
use crate::{
    host::Host,
    probe::{Event, Timing},
};

/// Version of the report's shape. It grows by one when a field goes away or changes its meaning;
/// new fields alone leave it.
pub const SCHEMA: u32 = 1;

/// A capture, ready to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of vmexit that made it.
    pub version: &'static str,
    /// Where.
    pub host: Host,
    /// When.
    pub span: Span,
    /// Whether KVM's exit tracepoints fired.
    pub source: Source,
    /// Which exits were timed: `all`, `1/N` or `off`. With `1/N`, sums of time are estimates.
    pub timing: Timing,
    /// What was captured: `vmexit`, `ioport`.
    pub events: BTreeSet<Event>,
    /// What was seen, and where it went.
    pub accounting: Accounting,
    /// The VMs, those that cost most first.
    pub vms: Vec<Vm>,
}

/// The time that a report covers.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// Start, UTC, RFC 3339.
    pub start: String,
    /// Length, seconds.
    pub seconds: f64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

/// What the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `kvm_exit` fired: counts and times.
    Exits,
    /// `kvm_exit` never fired while other KVM events did: this KVM module does not emit it. Only
    /// counts of those other events can be had.
    Silent,
    /// Nothing fired at all.
    Nothing,
}

/// Where every exit went: `observed = recorded + open + lost`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accounting {
    /// Exits seen.
    pub observed: u64,
    /// Exits booked on a reason, with their time.
    pub recorded: u64,
    /// Exits open at the end less those open at the start. With timing off, an exit is open until the
    /// next begins.
    pub open: i64,
    /// Exits that were not recorded, by cause.
    pub lost: Lost,
    /// Port accesses that no open exit was found for.
    pub stray: u64,
    /// More of those, of vCPUs over `--max-vcpus`: in no table.
    pub stray_lost: u64,
    /// Events that no program was run for, by tracepoint, as the kernel counts them. Beyond
    /// `observed`: an exit missed was not seen, an entry missed loses its exit's time.
    pub missed: BTreeMap<String, u64>,
    /// Exits that none of this explains: a defect of vmexit if not 0.
    pub unaccounted: i64,
    /// vCPUs that were read while they wrote; each may be off by one exit.
    pub torn: u64,
}

/// Exits that were not recorded, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// No `kvm_entry` was seen before the next `kvm_exit`.
    pub no_entry: u64,
    /// More vCPUs than `--max-vcpus`: no room for this one's counts.
    pub no_book: u64,
    /// More vCPUs than `--max-vcpus`: not even noted which.
    pub no_vcpu_entry: u64,
    /// The exit reason could not be read.
    pub unreadable: u64,
}

/// One virtual machine.
#[derive(Clone, Debug, Serialize)]
pub struct Vm {
    /// Its name as its owner chose it: unescaped.
    pub name: String,
    /// Process id of the VMM.
    pub pid: u32,
    /// Exits and their time over all reasons.
    pub total: Total,
    /// By vCPU, lowest number first.
    pub vcpus: Vec<Vcpu>,
    /// By exit reason: handled ones by time, then waiting ones.
    pub exits: Vec<Exit>,
    /// By I/O port and direction, by time.
    pub ports: Vec<Port>,
}

/// A sum over exits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Total {
    /// Exits.
    pub samples: u64,
    /// Exits per second.
    pub per_second: f64,
    /// Time from exit to entry without waiting, nanoseconds.
    pub handled_ns: u64,
    /// Time in which the vCPU had halted, nanoseconds.
    pub waiting_ns: u64,
    /// `handled_ns` as a share of one CPU over the span, percent.
    pub core_percent: f64,
}

/// One vCPU thread.
#[derive(Clone, Debug, Serialize)]
pub struct Vcpu {
    /// Number within the VM; null where neither kernel nor VMM tells.
    pub id: Option<u32>,
    /// Thread id.
    pub tid: u32,
    /// Its exits.
    pub total: Total,
}

/// One exit reason.
#[derive(Clone, Debug, Serialize)]
pub struct Exit {
    /// Name as Linux prints it.
    pub reason: String,
    /// The vendor's exit code; null for what found no row of its own.
    pub code: Option<u32>,
    /// The vCPU waits in it: its time is not cost, and not part of any share of time.
    pub waits: bool,
    /// Figures.
    #[serde(flatten)]
    pub stats: Stats,
}

/// One I/O port in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// The port; null for what found no row of its own.
    pub port: Option<u16>,
    /// `in` or `out`; null as above.
    pub direction: Option<Direction>,
    /// Access sizes seen, bytes.
    pub sizes: Vec<u8>,
    /// Accesses; more than samples where a string instruction made many.
    pub accesses: u64,
    /// Accesses without a known exit.
    pub stray: u64,
    /// Figures; the time is that of the whole exit.
    #[serde(flatten)]
    pub stats: Stats,
}

/// Direction of a port access, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The guest read.
    In,
    /// The guest wrote.
    Out,
}
