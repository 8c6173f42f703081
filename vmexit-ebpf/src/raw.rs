//! The programs on raw tracepoints: the fast path. They get the tracepoint's arguments as they are,
//! before the kernel makes a record of them, and read on from there by offsets that the agent took
//! from the running kernel's BTF.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel, macros::raw_tracepoint, programs::RawTracePointContext,
};
use vmexit_common::{
    key::Key,
    layout::{RawExitLayout, reason_in},
    vcpu::UNKNOWN_ID,
};

use crate::{
    access::{add, load, store},
    detail,
    exit::{self, Timing},
    maps, vcpu,
};

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit(ctx: RawTracePointContext) {
    on_exit(&ctx, Timing::All);
}

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_some(ctx: RawTracePointContext) {
    on_exit(&ctx, Timing::Some);
}

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_count(ctx: RawTracePointContext) {
    on_exit(&ctx, Timing::None);
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn kvm_entry(_ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu);
    }
}

/// `(rw, port, size, count, data)` in every kernel from 5.4 to 7.3 (arch/x86/kvm/trace.h).
#[raw_tracepoint(tracepoint = "kvm_pio")]
fn kvm_pio(ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpu::current_or_new(&ctx) {
        let port = Key::pio(ctx.arg::<u32>(1) as u16, ctx.arg::<u32>(0) != 0);
        detail::note(vcpu, port, ctx.arg(3), ctx.arg(2));
    }
}

#[inline(always)]
fn on_exit(ctx: &RawTracePointContext, timing: Timing) {
    let Some(vcpu) = vcpu::current_or_new(ctx) else { return };
    let layout = maps::raw_exit_layout();
    if load!(vcpu, isa) == 0 {
        // The first exit of this thread.
        let id =
            argument(ctx, layout.vcpu_argument).and_then(|kvm_vcpu| read(kvm_vcpu, layout.vcpu_id));
        store!(vcpu, isa, layout.isa);
        store!(vcpu, vcpu_id, id.unwrap_or(UNKNOWN_ID));
    }
    match reason(ctx, &layout) {
        Some(code) => exit::begin(vcpu, code, timing),
        None => {
            if let Some(loss) = maps::loss() {
                add!(loss, unreadable, 1);
            }
        }
    }
}

#[inline(always)]
fn reason(ctx: &RawTracePointContext, layout: &RawExitLayout) -> Option<u32> {
    if layout.reason_in == reason_in::ARGUMENT {
        return argument(ctx, layout.reason).map(|code| code as u32);
    }
    let kvm_vcpu = argument(ctx, layout.vcpu_argument)?;
    if layout.reason_in == reason_in::FIELD {
        return read(kvm_vcpu, layout.reason);
    }
    read(read(kvm_vcpu, layout.pointer)?, layout.reason)
}

/// One of the first two arguments. Loads from the context must have literal offsets; the verifier
/// knows `index`, a frozen global, and drops the branch not taken.
#[inline(always)]
fn argument(ctx: &RawTracePointContext, index: u32) -> Option<u64> {
    match index {
        0 => Some(ctx.arg(0)),
        1 => Some(ctx.arg(1)),
        _ => None,
    }
}

/// A field of a kernel object.
#[inline(always)]
fn read<T>(object: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((object + u64::from(offset)) as *const T) }.ok()
}
