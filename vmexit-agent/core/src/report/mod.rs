//! SlowDetail an interval means: VMs, their exit reasons and ports with names, shares and percentiles.
//! Every output is a rendering of one [`Report`]; the JSON output is the report itself.

mod assessment;
mod build;
mod detail;
mod fault;
mod frame;
mod leading;
mod scope;
mod series;
mod slow;
mod stats;
mod subject;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use serde::Serialize;
use vmexit_common::stats::Halts;

pub use self::{
    assessment::{
        Advice, Assessment, Confidence, Evidence, EvidenceRow, Figures, Finding, GuestOs, Healthy,
        Os,
    },
    build::{accounting, source},
    detail::Detail,
    fault::Page,
    leading::{Leading, LeadingDetail, LeadingReason},
    scope::{Scope, Selection},
    series::{SeriesPart, SeriesStep},
    slow::{Clock, SlowDetail, SlowExit, SlowSources},
    stats::{Bucket, Stats, per_second, percent},
    subject::Subject,
};
use crate::{
    counters::Interval,
    event::Event,
    host::Host,
    sampling::{self, SamplingCost},
    timing::Timing,
    vendor::Vendor,
};

/// Version of the report's shape. It grows by one when a field goes away or changes its meaning;
/// new fields alone leave it.
pub const SCHEMA: u32 = 3;

/// A capture, ready to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of vmexit that measured it.
    pub version: String,
    /// Where.
    pub host: Host,
    /// When.
    pub span: Span,
    /// Whether KVM's exit tracepoints fired.
    pub source: ExitReporting,
    /// Which exits were timed: `all`, `1/N` or `off`. With `1/N`, sums of time are estimates.
    pub timing: Timing,
    /// SlowDetail measuring took; null where there was no budget for it.
    #[serde(serialize_with = "sampling::with_percent")]
    pub sampling: Option<SamplingCost>,
    /// SlowDetail was captured: `vmexit`, `ioport` …
    pub events: BTreeSet<Event>,
    /// SlowDetail was seen, and where it went.
    pub accounting: Accounting,
    /// The VMs, those that cost most first.
    pub vms: Vec<VmReport>,
}

/// The time that a report covers.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// Start, UTC, RFC 3339; null where that is not known.
    pub start: Option<String>,
    /// How long was watched, seconds: all of its length, but for what follows.
    pub seconds: f64,
    /// Time in it that nobody watched, seconds: rates are those of the rest.
    pub unwatched_seconds: f64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Span {
    /// That of an interval, from a time on, if it is known.
    pub fn new(
        start: impl Into<Option<SystemTime>>,
        interval: &Interval,
        interrupted: bool,
    ) -> Self {
        let start = start.into();
        let start = start.map(|start| humantime::format_rfc3339_seconds(start).to_string());
        Self {
            start,
            seconds: interval.span_ns as f64 / 1e9,
            unwatched_seconds: interval.unwatched_ns as f64 / 1e9,
            interrupted,
        }
    }

    /// From its beginning to its end, seconds.
    pub fn length(&self) -> f64 {
        self.seconds + self.unwatched_seconds
    }

    /// When it began, in words.
    pub fn since(&self) -> &str {
        self.start.as_deref().unwrap_or("unknown time")
    }
}

/// SlowDetail the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReporting {
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
    pub in_flight: i64,
    /// Exits that were not recorded, by cause.
    pub lost: Lost,
    /// Events that no open exit was found for.
    pub unmatched: u64,
    /// More of those, of vCPUs over `--max-vcpus`: in no table.
    pub unmatched_lost: u64,
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
    pub vcpu_limit: u64,
    /// More vCPUs than `--max-vcpus`: not even noted which.
    pub vcpu_table_full: u64,
    /// The exit reason could not be read.
    pub unreadable: u64,
}

/// One virtual machine.
#[derive(Clone, Debug, Serialize)]
pub struct VmReport {
    /// Its name as its owner chose it: unescaped.
    pub name: String,
    /// Process id of the VMM.
    pub pid: u32,
    /// Vendor of its exit codes; `None` where neither its exits nor the host tell.
    #[serde(skip)]
    pub vendor: Option<Vendor>,
    /// Exits and their time over all reasons.
    pub total: Total,
    /// SlowDetail its exits were mostly for.
    pub leading: Leading,
    /// By vCPU, lowest number first.
    pub vcpus: Vec<VcpuReport>,
    /// SlowDetail it did.
    #[serde(flatten)]
    pub tables: Tables,
    /// The same over time: parts of the span in their order, without gaps; empty where only the whole is
    /// known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesStep>,
    /// SlowDetail that means; empty for a VM that was to have no tables.
    #[serde(flatten)]
    pub assessment: Assessment,
}

/// SlowDetail a VM, or one of its vCPUs, did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tables {
    /// By exit reason: handled ones, then waiting ones.
    pub exits: Vec<Exit>,
    /// By what exits were for: a table for each event that there was something of.
    pub details: BTreeMap<Event, Vec<Detail>>,
    /// How many rows were left out of a table, where it was to have no more than so many.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hidden: BTreeMap<Event, usize>,
}

impl Tables {
    /// Whether there was nothing at all.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty() && self.details.is_empty()
    }
}

/// A sum over exits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Total {
    /// Exits.
    pub samples: u64,
    /// Exits per second.
    pub per_second: f64,
    /// Standard error of that where not all of the time was watched, percent of it, by how much it went up and
    /// down; null where all was watched, or too few parts are known.
    pub rate_error_percent: Option<f64>,
    /// Events without an exit: all that there is where KVM reports no exits.
    pub unmatched: u64,
    /// Time from exit to entry without waiting, nanoseconds.
    pub handled_ns: u64,
    /// The part of it in which userspace (QEMU) had the vCPU; null where that is not captured.
    pub userspace_ns: Option<u64>,
    /// Time in which the vCPU had halted, nanoseconds.
    pub waiting_ns: u64,
    /// How halts ended; null where that is not captured.
    pub halts: Option<Halts>,
    /// `handled_ns` as a share of one CPU over the span, percent.
    pub core_percent: f64,
}

/// One vCPU thread.
#[derive(Clone, Debug, Serialize)]
pub struct VcpuReport {
    /// Number within the VM; null where neither kernel nor VMM tells.
    pub id: Option<u32>,
    /// Thread id.
    pub tid: u32,
    /// Its exits.
    pub total: Total,
    /// SlowDetail it did, where that was asked for.
    #[serde(flatten)]
    pub tables: Option<Tables>,
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
