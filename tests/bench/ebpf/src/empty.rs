//! Empty programs on tracepoints that fire on any KVM. The run time that the kernel's statistics show for
//! them is the statistics' own cost.

use core::ffi::c_void;

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::context::AS_IF_NOT_ON_CPU_0;

#[raw_tracepoint(tracepoint = "kvm_pio")]
fn empty_pio(_ctx: RawTracePointContext) {}

#[raw_tracepoint(tracepoint = "kvm_msr")]
fn empty_msr(_ctx: RawTracePointContext) {}

#[raw_tracepoint(tracepoint = "kvm_mmio")]
fn empty_mmio(_ctx: RawTracePointContext) {}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_empty_pio(_record: *mut c_void) -> u32 {
    AS_IF_NOT_ON_CPU_0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_empty_msr(_record: *mut c_void) -> u32 {
    AS_IF_NOT_ON_CPU_0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_empty_mmio(_record: *mut c_void) -> u32 {
    AS_IF_NOT_ON_CPU_0
}
