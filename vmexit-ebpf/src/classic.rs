//! The programs on classic tracepoints: fields by the offsets of the running kernel's own `format`
//! files.
//!
//! All return 1. The value is ANDed over every program on the tracepoint, and 0 takes the event away
//! from `perf` users beside us (`perf_trace_run_bpf_submit`, kernel/events/core.c). That is why they
//! do without `#[aya_ebpf::macros::tracepoint]`, which returns 0 whatever the function says.

use core::ffi::c_void;

use aya_ebpf::programs::TracePointContext;
use vmexit_common::{
    key::Key,
    layout::{ABSENT, Offset},
    vcpu::{UNKNOWN_ID, Vcpu},
};

use crate::{
    detail,
    exit::{self, Timing},
    maps::global,
    vcpu::{self, Identity},
};

const KEEP_FOR_OTHERS: u32 = 1;

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_exit(ctx: *mut c_void) -> u32 {
    on_exit(&TracePointContext::new(ctx), Timing::All)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_exit_some(ctx: *mut c_void) -> u32 {
    on_exit(&TracePointContext::new(ctx), Timing::Some)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_exit_count(ctx: *mut c_void) -> u32 {
    on_exit(&TracePointContext::new(ctx), Timing::None)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_entry(_ctx: *mut c_void) -> u32 {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu);
    }
    KEEP_FOR_OTHERS
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_pio(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    if let Some(vcpu) = vcpu::current_or_new(&ctx) {
        on_pio(&ctx, vcpu);
    }
    KEEP_FOR_OTHERS
}

#[inline(always)]
fn on_exit(ctx: &TracePointContext, timing: Timing) -> u32 {
    let Some(vcpu) = vcpu::current_or_new(ctx) else { return KEEP_FOR_OTHERS };
    let identity = || Identity {
        vcpu_id: read(ctx, global!(EXIT_LAYOUT.vcpu_id)).unwrap_or(UNKNOWN_ID),
        isa: read(ctx, global!(EXIT_LAYOUT.isa)).unwrap_or(0),
    };
    if exit::is_closed(ctx, vcpu, timing, identity) {
        exit::begin(vcpu, read(ctx, global!(EXIT_LAYOUT.exit_reason)), timing);
    }
    KEEP_FOR_OTHERS
}

#[inline(always)]
fn on_pio(ctx: &TracePointContext, vcpu: *mut Vcpu) {
    if let (Some(rw), Some(port), Some(size), Some(count)) = (
        read(ctx, global!(PIO_LAYOUT.rw)),
        read(ctx, global!(PIO_LAYOUT.port)),
        read(ctx, global!(PIO_LAYOUT.size)),
        read(ctx, global!(PIO_LAYOUT.count)),
    ) {
        detail::note(ctx, vcpu, Key::pio(port.into(), rw.into(), size.into()), count.into());
    }
}

/// A u32 field of the record; `None` where this kernel has no such field.
#[inline(always)]
fn read(ctx: &TracePointContext, offset: Offset) -> Option<u32> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the agent took the offset from the record's own description; the helper checks the
    // address all the same.
    unsafe { ctx.read_at::<u32>(offset as usize) }.ok()
}
