//! Lower bound of the cost of two timestamps per exit: programs that read the clock and do nothing else.

use core::ffi::c_void;

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::context::{AS_IF_NOT_ON_CPU_0, now};

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn floor_exit(_ctx: RawTracePointContext) {
    now();
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn floor_entry(_ctx: RawTracePointContext) {
    now();
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn classic_exit(_record: *mut c_void) -> u32 {
    now();
    AS_IF_NOT_ON_CPU_0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn classic_entry(_record: *mut c_void) -> u32 {
    now();
    AS_IF_NOT_ON_CPU_0
}
