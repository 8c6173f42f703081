//! Reports: VMs, their exit reasons and details, with names, shares and percentiles. Every output
//! is a rendering of one [`Report`]; the JSON output is the report itself.

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
    build::{accounting, exit_reporting},
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

/// Version of the JSON schema. It grows by one when a field is removed or changes its meaning; new
/// fields do not change it.
pub const SCHEMA: u32 = 3;

/// A measurement in the form that is displayed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of vmexit that measured.
    pub version: String,
    /// Host that was measured.
    pub host: Host,
    /// Start and length.
    pub span: Span,
    /// Whether KVM reported exits.
    pub source: ExitReporting,
    /// Exits that were timed: `all`, `1/N` or `off`. With `1/N`, sums of time are estimates.
    pub timing: Timing,
    /// CPU time spent on measuring; null without a budget.
    #[serde(serialize_with = "sampling::with_percent")]
    pub sampling: Option<SamplingCost>,
    /// Events captured: `vmexit`, `ioport` …
    pub events: BTreeSet<Event>,
    /// Accounting of all exits observed.
    pub accounting: Accounting,
    /// VMs, highest handled time first.
    pub vms: Vec<VmReport>,
}

impl Report {
    /// Whether KVM reported exits. If not, there are only counts of its other events.
    pub fn has_exits(&self) -> bool {
        self.source == ExitReporting::Exits
    }

    /// Whether durations of exits were measured.
    pub fn has_times(&self) -> bool {
        self.has_exits() && self.timing != Timing::Off
    }
}

/// The time that a report covers.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// Start, UTC, RFC 3339; null if unknown.
    pub start: Option<String>,
    /// Time observed, seconds: the length without `unwatched_seconds`. Rates refer to it.
    pub seconds: f64,
    /// Time not observed, seconds.
    pub unwatched_seconds: f64,
    /// Whether the measurement was ended early.
    pub interrupted: bool,
}

impl Span {
    /// The span of an interval that began at `start`, if known.
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

    /// Length from start to end, seconds.
    pub fn length(&self) -> f64 {
        self.seconds + self.unwatched_seconds
    }

    /// The start as text; `unknown time` if unknown.
    pub fn since(&self) -> &str {
        self.start.as_deref().unwrap_or("unknown time")
    }
}

/// Whether KVM reported exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReporting {
    /// `kvm_exit` fired: counts and times are available.
    Exits,
    /// `kvm_exit` did not fire while other KVM events did: this KVM module does not emit it. Only
    /// counts of the other events are available.
    Silent,
    /// No KVM event fired.
    Nothing,
}

/// Accounting of all exits: `observed = recorded + in_flight + lost`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accounting {
    /// Exits observed.
    pub observed: u64,
    /// Exits recorded on a reason, with their time.
    pub recorded: u64,
    /// Exits in flight at the end minus those in flight at the start. With timing off, an exit is
    /// in flight until the next one begins.
    pub in_flight: i64,
    /// Exits not recorded, by cause.
    pub lost: Lost,
    /// Events without an exit in flight.
    pub unmatched: u64,
    /// Further events without an exit in flight, of vCPUs beyond `--max-vcpus`: in no table.
    pub unmatched_lost: u64,
    /// Events for which the kernel skipped the program, by tracepoint, as the kernel counts them.
    /// Not part of `observed`: a missed exit was not observed, a missed entry loses the time of its
    /// exit.
    pub missed: BTreeMap<String, u64>,
    /// Exits that none of these explains: a defect of vmexit unless 0.
    pub unaccounted: i64,
    /// vCPUs read while being written; each may be off by one exit.
    pub torn: u64,
}

/// Exits not recorded, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// No `kvm_entry` before the next `kvm_exit`.
    pub no_entry: u64,
    /// No free stats block: more vCPUs than `--max-vcpus`.
    pub vcpu_limit: u64,
    /// No free entry in the vCPU table: more vCPUs than `--max-vcpus`.
    pub vcpu_table_full: u64,
    /// Exit reason not readable.
    pub unreadable: u64,
}

/// One virtual machine.
#[derive(Clone, Debug, Serialize)]
pub struct VmReport {
    /// Name of the VM, chosen by its owner: unescaped.
    pub name: String,
    /// Process ID of the VMM.
    pub pid: u32,
    /// Vendor of its exit codes; `None` if neither its exits nor the host determine it.
    #[serde(skip)]
    pub vendor: Option<Vendor>,
    /// Sum over all exit reasons.
    pub total: Total,
    /// Main exit reason and detail.
    pub leading: Leading,
    /// vCPUs, lowest number first.
    pub vcpus: Vec<VcpuReport>,
    /// Tables by exit reason and by detail.
    #[serde(flatten)]
    pub tables: Tables,
    /// Steps over time: parts of the span in order, without gaps; empty if only the whole is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesStep>,
    /// Findings; empty for a VM without tables.
    #[serde(flatten)]
    pub assessment: Assessment,
}

/// Tables of a VM or of one of its vCPUs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tables {
    /// Rows by exit reason: handled ones, then waiting ones.
    pub exits: Vec<Exit>,
    /// Rows by detail; one table for each event that occurred.
    pub details: BTreeMap<Event, Vec<Detail>>,
    /// Rows left out of a table, by event; missing if none were.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hidden: BTreeMap<Event, usize>,
}

impl Tables {
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty() && self.details.is_empty()
    }
}

/// Sum over exits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Total {
    /// Number of exits.
    pub samples: u64,
    /// Exits per second.
    pub per_second: f64,
    /// Standard error of `per_second` if not all of the time was observed, percent of it, from its
    /// variation between steps. Null if all of the time was observed, or if too few steps are
    /// known.
    pub rate_error_percent: Option<f64>,
    /// Events without an exit: all there are if KVM reports no exits.
    pub unmatched: u64,
    /// Time from exit to entry without waiting, nanoseconds.
    pub handled_ns: u64,
    /// Part of `handled_ns` during which userspace (QEMU) had the vCPU, nanoseconds; null if not
    /// captured.
    pub userspace_ns: Option<u64>,
    /// Time during which the vCPU had halted, nanoseconds.
    pub waiting_ns: u64,
    /// Outcomes of halts; null if not captured.
    pub halts: Option<Halts>,
    /// `handled_ns` as a share of one CPU over the span, percent.
    pub core_percent: f64,
}

/// One vCPU thread.
#[derive(Clone, Debug, Serialize)]
pub struct VcpuReport {
    /// vCPU number within the VM; null if neither kernel nor VMM determines it.
    pub id: Option<u32>,
    /// Thread ID.
    pub tid: u32,
    /// Sum over its exit reasons.
    pub total: Total,
    /// Tables of its exits, if requested.
    #[serde(flatten)]
    pub tables: Option<Tables>,
}

/// One exit reason.
#[derive(Clone, Debug, Serialize)]
pub struct Exit {
    /// Linux's name of the exit reason.
    pub reason: String,
    /// The vendor's exit code; null for the `other` row.
    pub code: Option<u32>,
    /// Whether the vCPU waits in it: its time is no cost, and in no share of time.
    pub waits: bool,
    /// Number and durations of these exits.
    #[serde(flatten)]
    pub stats: Stats,
}
