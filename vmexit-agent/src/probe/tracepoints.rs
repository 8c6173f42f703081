//! Tracepoints that vmexit uses: their fields, their programs, and the part of reports that needs them.

use super::{Event, ProbeOptions, Timing};

/// First Linux version that vmexit runs on. The newest required feature is compare-and-exchange in eBPF.
pub const OLDEST_LINUX: &str = "5.12";

/// A tracepoint of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// Group (subsystem) in tracefs.
    pub group: &'static str,
    /// Name within the group.
    pub name: &'static str,
    /// Event that needs the tracepoint; `None` if every capture does.
    pub event: Option<Event>,
    /// First Linux version that has the tracepoint with these fields.
    pub since: &'static str,
    /// Part of the report that is missing without the tracepoint.
    pub without: &'static str,
    /// Fields that the programs read; `None` if the layout needs more than field offsets.
    pub fields: Option<Fields>,
    /// Programs for the raw tracepoint, by timing: all exits, some, none, and all with slow exits reported.
    raw: [Option<&'static str>; 4],
    /// Programs for the classic tracepoint, in the same order.
    classic: [Option<&'static str>; 4],
}

/// Fields that a program reads, in the program's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Arguments of the raw tracepoint before the first field.
    pub skipped: usize,
    /// Names and sizes in bytes, the same in the raw tracepoint and in the classic record.
    pub names: &'static [(&'static str, u32)],
}

/// The same program for every timing.
const fn always(program: &'static str) -> [Option<&'static str>; 4] {
    [Some(program); 4]
}

/// Tracepoint between exit and entry: name of the tracepoint and its programs, event, first Linux version, part of
/// the report, fields.
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

/// All tracepoints, in the order to attach them: `sched_process_exit` before the programs that claim an entry for a
/// thread, `kvm_entry` before `kvm_exit`. Fields as in arch/x86/kvm/trace.h and include/trace/events/kvm.h.
#[rustfmt::skip]
pub static TRACEPOINTS: [Tracepoint; 13] = [
    Tracepoint {
        group: "sched",
        name: "sched_process_exit",
        event: None,
        since: "2.6.32",
        without: "the end of vCPU threads",
        fields: None,
        // The first argument is the task in every kernel, so the raw tracepoint needs no layout.
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
    detail!("kvm_userspace_exit", Userspace, since "2.6.36", "reasons and times of exits to userspace", skip 0,
        reason: 4, errno: 4),
    detail!("kvm_vcpu_wakeup", Halt, since "4.3", "sleeping and polling of halts", skip 0, ns: 8, waited: 1),
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
    /// Program for the raw or the classic tracepoint; `None` if these options need none.
    pub(super) fn program(&self, is_raw: bool, options: &ProbeOptions) -> Option<&'static str> {
        let programs = if is_raw { self.raw } else { self.classic };
        match options.timing {
            _ if options.slow.is_some() => programs[3],
            Timing::All | Timing::Varies if !options.sampled => programs[0],
            Timing::All | Timing::Varies | Timing::OneIn(_) => programs[1],
            Timing::Off => programs[2],
        }
    }
}
