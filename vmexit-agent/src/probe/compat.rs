//! The tracepoints that vmexit uses: which it can do without, and what is lost then.

use super::{
    Event, ProbeOptions, Timing,
    plan::{AttachPlan, ReadPath},
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
    /// What is read of it, where that is all that it takes.
    pub fields: Option<Fields>,
    /// The programs for the raw tracepoint: where all exits are timed, some, and none; and where all are,
    /// and those that took long are handed over.
    raw: [Option<&'static str>; 4],
    /// The programs for the classic one, likewise.
    classic: [Option<&'static str>; 4],
}

/// The fields that a program reads, in the order in which it asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Arguments of the raw tracepoint before the first of these.
    pub skipped: usize,
    /// Names and sizes in bytes: the same as arguments and in the record.
    pub names: &'static [(&'static str, u32)],
}

/// The same program, whatever is timed.
const fn always(program: &'static str) -> [Option<&'static str>; 4] {
    [Some(program); 4]
}

/// A tracepoint between exit and entry: its name and its programs', the event, the first Linux that has it
/// with these fields, what it is for.
macro_rules! detail {
    ($name:literal, $event:ident, since $since:literal, $without:literal, skip $skipped:literal
     $(, $field:ident: $size:literal)*) => {
        Tracepoint {
            group: "kvm",
            name: $name,
            event: Some(Event::$event),
            since: $since,
            without: $without,
            fields: Some(Fields { skipped: $skipped, names: &[$((stringify!($field), $size)),*] }),
            raw: always($name),
            classic: always(concat!("tp_", $name)),
        }
    };
}

/// In the order to attach them: no thread is noted before its end can be, and no exit is opened before
/// its entry can close it. Fields as in arch/x86/kvm/trace.h and include/trace/events/kvm.h.
#[rustfmt::skip]
pub static TRACEPOINTS: [Tracepoint; 13] = [
    Tracepoint {
        group: "sched",
        name: "sched_process_exit",
        event: None,
        since: "2.6.32",
        without: "when a vCPU's thread is gone",
        fields: None,
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
        fields: None,
        raw: [Some("kvm_entry"), Some("kvm_entry_some"), None, Some("kvm_entry_slow")],
        classic: [Some("tp_kvm_entry"), Some("tp_kvm_entry_some"), None, Some("tp_kvm_entry_slow")],
    },
    detail!("kvm_pio", Ioport, since "2.6.32", "I/O ports", skip 0, rw: 4, port: 4, size: 4, count: 4),
    detail!("kvm_mmio", Mmio, since "2.6.32", "device registers in memory", skip 0, type: 4, len: 4, gpa: 8),
    detail!("kvm_fast_mmio", Mmio, since "4.5", "doorbells by ioeventfd", skip 0, gpa: 8),
    detail!("kvm_msr", Msr, since "2.6.32", "MSRs", skip 0, write: 4, ecx: 4),
    detail!("kvm_cpuid", Cpuid, since "2.6.32", "leaves of CPUID", skip 0, function: 4),
    detail!("kvm_hypercall", Hypercall, since "2.6.32", "hypercalls to KVM", skip 0, nr: 8),
    detail!("kvm_hv_hypercall", Hypercall, since "2.6.34", "hypercalls to Hyper-V", skip 0, code: 2),
    detail!("kvm_page_fault", Fault, since "6.0", "page faults by access", skip 1, fault_address: 8, error_code: 8),
    detail!("kvm_userspace_exit", Userspace, since "2.6.36", "why exits go to userspace, and for how long", skip 0,
        reason: 4, errno: 4),
    detail!("kvm_vcpu_wakeup", Halt, since "4.3", "whether halts sleep or poll", skip 0, ns: 8, waited: 1),
    Tracepoint {
        group: "kvm",
        name: "kvm_exit",
        event: None,
        since: "2.6.32",
        without: "exits",
        fields: None,
        raw: [Some("kvm_exit"), Some("kvm_exit_some"), Some("kvm_exit_count"), Some("kvm_exit")],
        classic: [Some("tp_kvm_exit"), Some("tp_exit_some"), Some("tp_exit_count"), Some("tp_kvm_exit")],
    },
];

impl Tracepoint {
    /// The program that a plan has for it, if it has one.
    pub(super) fn program(
        &self,
        plan: &AttachPlan,
        options: &ProbeOptions,
    ) -> Option<&'static str> {
        let is_raw = match self.name {
            "kvm_entry" => is_raw(&plan.entry),
            "kvm_exit" => is_raw(&plan.exit),
            name if self.fields.is_some() => is_raw(plan.details.get(name)?.as_ref().ok()?),
            _ => true,
        };
        let programs = if is_raw { self.raw } else { self.classic };
        match options.timing {
            _ if options.slow.is_some() => programs[3],
            Timing::All | Timing::Varies if !options.sampled => programs[0],
            Timing::All | Timing::Varies | Timing::OneIn(_) => programs[1],
            Timing::Off => programs[2],
        }
    }
}

fn is_raw<R, C>(way: &ReadPath<R, C>) -> bool {
    matches!(way, ReadPath::Raw(_))
}
