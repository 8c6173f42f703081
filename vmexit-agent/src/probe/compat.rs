//! The tracepoints that vmexit uses: which it can do without, and what is lost then.

use super::plan::{Plan, Way};

/// A tracepoint of KVM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// Its name, in the group `kvm`.
    pub name: &'static str,
    /// Whether nothing can be captured without it.
    pub required: bool,
    /// The first Linux that has it as it is used here.
    pub since: &'static str,
    /// What can't be shown without it.
    pub without: &'static str,
    /// The program for the raw tracepoint.
    pub(super) raw: &'static str,
    /// The program for the classic one.
    pub(super) classic: &'static str,
}

/// In the order to attach them: no exit is opened before its entry can close it.
#[rustfmt::skip]
pub const TRACEPOINTS: [Tracepoint; 3] = [
    Tracepoint { name: "kvm_entry", required: true,  since: "2.6.32", without: "the time of an exit", raw: "kvm_entry", classic: "tp_kvm_entry" },
    Tracepoint { name: "kvm_pio",   required: false, since: "2.6.32", without: "I/O ports",           raw: "kvm_pio",   classic: "tp_kvm_pio" },
    Tracepoint { name: "kvm_exit",  required: true,  since: "2.6.32", without: "exits",               raw: "kvm_exit",  classic: "tp_kvm_exit" },
];

impl Tracepoint {
    /// The program that a plan has for it, if it has one.
    pub(super) fn program(&self, plan: &Plan) -> Option<&'static str> {
        let is_raw = match self.name {
            "kvm_entry" => is_raw(&plan.entry),
            "kvm_pio" => is_raw(plan.pio.as_ref().ok()?),
            _ => is_raw(&plan.exit),
        };
        Some(if is_raw { self.raw } else { self.classic })
    }
}

fn is_raw<R, C>(way: &Way<R, C>) -> bool {
    matches!(way, Way::Raw(_))
}
