//! Reads that all comparators have in common.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};

/// Return value of classic programs. bpftrace's programs return 1, which passes an event on to the perf
/// events on the tracepoint. The perf event that holds the program is on CPU 0, so a vCPU on that CPU pays
/// for it, and vCPUs on other CPUs do not (`perf_trace_run_bpf_submit`, kernel/events/core.c). Returning 0
/// costs what 1 costs on those other CPUs, so a machine with one CPU measures the cost on one with many.
pub const AS_IF_NOT_ON_CPU_0: u32 = 0;

/// `exit_reason` of a classic `kvm_exit` record: a plain load, as from a compiler that knows the record's
/// layout. The loader has checked that the field is at offset 8.
#[inline(always)]
pub fn exit_reason(record: *const c_void) -> u32 {
    // SAFETY: within the record.
    unsafe { record.cast::<u32>().add(2).read_volatile() }
}

/// Time since boot without suspension, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// ID of the current thread.
#[inline(always)]
pub fn thread() -> u32 {
    bpf_get_current_pid_tgid() as u32
}
