//! What all comparators read the same way.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};

/// What classic programs return here. bpftrace's return 1, which lets an event go on to the perf events on
/// the tracepoint. The one that holds the program is on CPU 0, so that a vCPU there pays for it too, and
/// on other CPUs none (`perf_trace_run_bpf_submit`, kernel/events/core.c). 0 costs what 1 costs elsewhere:
/// a machine with one CPU can then measure for one with many.
pub const AS_IF_NOT_ON_CPU_0: u32 = 0;

/// `exit_reason` of a classic `kvm_exit` record: a plain load, as a compiler makes it that knows the
/// record. The loader has checked that it is at 8.
#[inline(always)]
pub fn exit_reason(record: *const c_void) -> u32 {
    // SAFETY: within the record.
    unsafe { record.cast::<u32>().add(2).read_volatile() }
}

/// Nanoseconds since boot, suspension left out.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The thread that runs.
#[inline(always)]
pub fn thread() -> u32 {
    bpf_get_current_pid_tgid() as u32
}
