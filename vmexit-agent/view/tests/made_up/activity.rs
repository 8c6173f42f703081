//! Activities of a guest that rules look for.

use vmexit_common::{
    key::{Key, Kind},
    stats::Halts,
};
use vmexit_core::{
    counters::RowReading,
    device::{Map, mtree::MemoryTree},
    vendor::Vendor,
};

use super::{Capture, row, vcpu};

/// Exits that cost 2 % of a core over the 10 s of a capture.
pub const MANY: &[(u64, u32)] = &[(10_000, 20_000)];
/// A tenth of [`MANY`].
pub const FEW: &[(u64, u32)] = &[(10_000, 2_000)];

/// Intel's exit codes.
pub const EXTERNAL_INTERRUPT: u32 = 1;
pub const CPUID: u32 = 10;
pub const HLT: u32 = 12;
pub const IO: u32 = 30;
pub const PAUSE: u32 = 40;
pub const APIC_ACCESS: u32 = 44;
pub const EOI_INDUCED: u32 = 45;
pub const PREEMPTION_TIMER: u32 = 52;

/// AMD's exit codes.
pub const SVM_CPUID: u32 = 0x72;
pub const SVM_PAUSE: u32 = 0x77;

/// Exits of a guest with one vCPU on Intel, and the devices of its VM.
#[derive(Default)]
pub struct Activity {
    /// Rows by exit reason.
    pub reasons: Vec<RowReading>,
    /// Rows by detail.
    pub details: Vec<RowReading>,
    /// Output of `info mtree -f`; `None` if QEMU could not be asked.
    pub tree: Option<String>,
    /// Outcomes of halts; none if `None`.
    pub halts: Option<Halts>,
}

/// I/O exits with these durations for each key.
pub fn each(keys: &[Key], durations: &[(u64, u32)]) -> Activity {
    let times = keys.len() as u32;
    let all: Vec<(u64, u32)> = durations.iter().map(|&(ns, count)| (ns, count * times)).collect();
    Activity {
        reasons: vec![row(Key::reason(IO), &all)],
        details: keys.iter().map(|&key| row(key, durations)).collect(),
        ..Activity::default()
    }
}

/// I/O exits for one key, as [`MANY`].
pub fn many(key: Key) -> Activity {
    each(&[key], MANY)
}

/// Exits for one reason.
pub fn exits(code: u32, durations: &[(u64, u32)]) -> Activity {
    Activity { reasons: vec![row(Key::reason(code), durations)], ..Activity::default() }
}

/// Halts in which KVM polled for a time, nanoseconds.
pub fn polled(ns: u64) -> Activity {
    let halts = Halts { polled: 5_000, polled_ns: ns, ..Halts::default() };
    Activity { halts: Some(halts), ..exits(HLT, MANY) }
}

impl Activity {
    /// The same on a VM with this memory tree.
    pub fn on(self, tree: &str) -> Self {
        Self { tree: Some(tree.to_owned()), ..self }
    }

    /// The same with all time spent in userspace.
    pub fn in_userspace(mut self) -> Self {
        self.details.iter_mut().for_each(|row| row.row.user_ns = row.row.total_ns);
        self
    }

    /// A capture of the guest.
    pub fn capture(self) -> Capture {
        let mut first = vcpu(0, self.reasons, self.details);
        first.halts = self.halts.unwrap_or_default();
        let map = self.tree.map(|tree| Map::Asked(MemoryTree::parse(&tree).unwrap()));
        Capture { map, ..Capture::of(Some(Vendor::Vmx), "guest", vec![first]) }
    }
}

/// Key of a read of a port.
pub fn input(port: u64) -> Key {
    Key::pio(port, 0, 4)
}

/// Key of a read of a register.
pub fn read(address: u64) -> Key {
    Key::mmio(address, 0, 4)
}

/// Key without direction and size.
pub fn plain(kind: Kind, value: u64) -> Key {
    Key::plain(kind, value)
}
