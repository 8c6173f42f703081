//! The programs on raw tracepoints: the fast path. They get the tracepoint's arguments as they are,
//! before the kernel makes a record of them, and read on from there by offsets that the agent took
//! from the running kernel's BTF.

use core::arch::asm;

use aya_ebpf::{
    helpers::bpf_probe_read_kernel, macros::raw_tracepoint, programs::RawTracePointContext,
};
use vmexit_common::{cast::UNRESOLVED, key::Key, layout::reason_in, vcpu::UNKNOWN_ID};

use crate::{
    detail,
    exit::{self, Timing},
    maps::global,
    vcpu::{self, Identity},
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
        // Zero-extended to 64 bits each.
        let key = Key::pio(ctx.arg(1), ctx.arg(0), ctx.arg(2));
        detail::note(&ctx, vcpu, key, ctx.arg(3));
    }
}

/// `(task, …)`: the thread that runs it.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) {
    vcpu::end(ctx.arg(0));
}

#[inline(always)]
fn on_exit(ctx: &RawTracePointContext, timing: Timing) {
    let Some(vcpu) = vcpu::current_or_new(ctx) else { return };
    let identity = || Identity { vcpu_id: vcpu_id(ctx), isa: global!(RAW_EXIT_LAYOUT.isa) as u32 };
    if exit::is_closed(ctx, vcpu, timing, identity) {
        exit::begin(vcpu, reason(ctx), timing);
    }
}

#[inline(always)]
fn vcpu_id(ctx: &RawTracePointContext) -> u32 {
    read_u32(kvm_vcpu(ctx) + global!(RAW_EXIT_LAYOUT.vcpu_id)).unwrap_or(UNKNOWN_ID)
}

#[inline(always)]
fn reason(ctx: &RawTracePointContext) -> Option<u32> {
    match global!(RAW_EXIT_LAYOUT.reason_in) {
        // Before the vCPU.
        reason_in::ARGUMENT => Some(ctx.arg(0)),
        reason_in::FIELD => read_u32(ctx.arg::<u64>(0) + global!(RAW_EXIT_LAYOUT.reason)),
        _ => {
            let pointer = read_u64(ctx.arg::<u64>(0) + global!(RAW_EXIT_LAYOUT.pointer))?;
            read_u32(pointer + global!(RAW_EXIT_LAYOUT.reason))
        }
    }
}

/// The vCPU behind the reason, or first.
#[inline(always)]
fn kvm_vcpu(ctx: &RawTracePointContext) -> u64 {
    if global!(RAW_EXIT_LAYOUT.reason_in) == reason_in::ARGUMENT {
        // SAFETY: nothing. It keeps the two loads apart: merged into one, its offset is no literal, which
        // the verifier wants.
        unsafe { asm!("", options(nostack)) };
        return ctx.arg(1);
    }
    ctx.arg(0)
}

/// A part of a kernel object.
#[inline(always)]
fn read_u32(address: u64) -> Option<u32> {
    let to = global!(RAW_EXIT_LAYOUT.cast_to);
    if to != 0 {
        // SAFETY: the verifier allows the load, and the kernel survives it.
        return Some(unsafe { cast(address, to).cast::<u32>().read_volatile() });
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u32) }.ok()
}

/// A longer part of one.
#[inline(always)]
fn read_u64(address: u64) -> Option<u64> {
    let to = global!(RAW_EXIT_LAYOUT.cast_to);
    if to != 0 {
        // SAFETY: as above.
        return Some(unsafe { cast(address, to).read_volatile() });
    }
    // SAFETY: as above.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
}

/// A kernel address as a pointer that may be loaded from (see [`vmexit_common::cast`]).
#[inline(always)]
fn cast(address: u64, to: u64) -> *const u64 {
    let pointer;
    // SAFETY: the kernel function returns its first argument, and touches nothing.
    unsafe {
        asm!(
            ".8byte {call}",
            call = const UNRESOLVED,
            inout("r1") address => _,
            inout("r2") to => _,
            lateout("r0") pointer,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
            options(nomem, nostack),
        );
    }
    pointer
}
