//! The tracepoints that vmexit uses: which it can do without, and what is lost then.

use super::{
    Event, Timing,
    plan::{Plan, Way},
};

/// The first Linux with all that no host can do without: compare-and-exchange in eBPF is the newest.
pub const OLDEST_LINUX: &str = "5.12";

/// A tracepoint of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// The group of events that it is in.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The event that it is needed for; `None` if nothing can be captured without it.
    pub event: Option<Event>,
    /// The first Linux that has it as it is used here.
    pub since: &'static str,
    /// What can't be shown without it.
    pub without: &'static str,
    /// The programs for the raw tracepoint: where all exits are timed, some, and none.
    raw: [Option<&'static str>; 3],
    /// The programs for the classic one, likewise.
    classic: [Option<&'static str>; 3],
}

/// The same program, whatever is timed.
const fn always(program: &'static str) -> [Option<&'static str>; 3] {
    [Some(program); 3]
}

/// In the order to attach them: no thread is noted before its end can be, and no exit is opened before
/// its entry can close it.
pub const TRACEPOINTS: [Tracepoint; 4] = [
    Tracepoint {
        group: "sched",
        name: "sched_process_exit",
        event: None,
        since: "2.6.32",
        without: "when a vCPU's thread is gone",
        // It passes the task, always, so no layout is needed to use it raw.
        raw: always("sched_process_exit"),
        classic: always("sched_process_exit"),
    },
    Tracepoint {
        group: "kvm",
        name: "kvm_entry",
        event: None,
        since: "2.6.32",
        without: "the time of an exit",
        raw: [Some("kvm_entry"), Some("kvm_entry"), None],
        classic: [Some("tp_kvm_entry"), Some("tp_kvm_entry"), None],
    },
    Tracepoint {
        group: "kvm",
        name: "kvm_pio",
        event: Some(Event::Ioport),
        since: "2.6.32",
        without: "I/O ports",
        raw: always("kvm_pio"),
        classic: always("tp_kvm_pio"),
    },
    Tracepoint {
        group: "kvm",
        name: "kvm_exit",
        event: None,
        since: "2.6.32",
        without: "exits",
        raw: [Some("kvm_exit"), Some("kvm_exit_some"), Some("kvm_exit_count")],
        classic: [Some("tp_kvm_exit"), Some("tp_exit_some"), Some("tp_exit_count")],
    },
];

impl Tracepoint {
    /// The program that a plan has for it, if it has one.
    pub(super) fn program(&self, plan: &Plan, timing: Timing) -> Option<&'static str> {
        let is_raw = match self.name {
            "kvm_entry" => is_raw(&plan.entry),
            "kvm_pio" => is_raw(plan.pio.as_ref().ok()?),
            "kvm_exit" => is_raw(&plan.exit),
            _ => true,
        };
        let programs = if is_raw { self.raw } else { self.classic };
        match timing {
            Timing::All => programs[0],
            Timing::OneIn(_) => programs[1],
            Timing::Off => programs[2],
        }
    }
}

fn is_raw<R, C>(way: &Way<R, C>) -> bool {
    matches!(way, Way::Raw(_))
}
