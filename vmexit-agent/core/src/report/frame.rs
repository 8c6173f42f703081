//! Common context of a report's rows, and names of exit codes.

use std::collections::BTreeMap;

use vmexit_common::key::{Key, Kind};

use super::{ExitReporting, Scope};
use crate::{
    counters::{RowInterval, VcpuInterval},
    device::Map,
    reason::{self, Names},
    vendor::Vendor,
};

/// Context of all rows of a VM. Only the vendor differs between VMs.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) reasons: &'a Names,
    pub(super) maps: &'a BTreeMap<u32, Map>,
    pub(super) vendor: Option<Vendor>,
    pub(super) scope: Scope,
    /// Whether time in userspace is known.
    pub(super) userspace: bool,
    /// Whether outcomes of halts are known.
    pub(super) halts: bool,
    pub(super) span_ns: u64,
    pub(super) source: ExitReporting,
}

impl<'a> Frame<'a> {
    /// The frame of the VM with these vCPUs.
    pub(super) fn of(self, vcpus: &[&VcpuInterval]) -> Frame<'a> {
        let vendor = vcpus.iter().find_map(|vcpu| Vendor::of_isa(vcpu.isa)).or(self.vendor);
        Frame { vendor, ..self }
    }
}

/// Exit code of a row by reason; `None` for the `other` row.
pub(super) fn code_of(key: Key) -> Option<u32> {
    (key.kind() == Some(Kind::Reason)).then_some(key.value() as u32)
}

/// Name of an exit code; `other` for `None`.
pub(super) fn reason_name(code: Option<u32>, frame: Frame<'_>) -> String {
    match code {
        Some(code) => frame.reasons.name(frame.vendor, code).into_owned(),
        None => "other".into(),
    }
}

/// Whether the exits of a row by reason are waiting (HLT) rather than work.
pub(super) fn row_waits(row: &RowInterval, vendor: Option<Vendor>) -> bool {
    code_of(row.key).is_some_and(|code| reason::waits(vendor, code))
}
