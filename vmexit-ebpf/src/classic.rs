//! Programs on classic tracepoints: fields at the offsets in the running kernel's `format` files.
//!
//! All of them return 1. The kernel ANDs the values of all programs on a tracepoint, and 0 takes the
//! event away from other `perf` users (`perf_trace_run_bpf_submit`, kernel/events/core.c). The programs
//! therefore do without `#[aya_ebpf::macros::tracepoint]`, which returns 0 whatever the function returns.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext, programs::TracePointContext};
use vmexit_common::{
    layout::{ABSENT, Offset},
    vcpu::UNKNOWN_ID,
};

use crate::{
    event::{self, Arguments},
    exit::{self, TimingMode},
    maps::global,
    slow::EntryArguments,
    vcpu::{self, Context, VcpuIdentity},
};

/// Return value that keeps the event for other users of the tracepoint.
const KEEP_FOR_OTHERS: u32 = 1;

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_exit(ctx: *mut c_void) -> u32 {
    on_exit(&TracePointContext::new(ctx), TimingMode::All)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_exit_some(ctx: *mut c_void) -> u32 {
    on_exit(&TracePointContext::new(ctx), TimingMode::Sampled)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_exit_count(ctx: *mut c_void) -> u32 {
    on_exit(&TracePointContext::new(ctx), TimingMode::Off)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_entry(_ctx: *mut c_void) -> u32 {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu, TimingMode::All, ());
    }
    KEEP_FOR_OTHERS
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_entry_some(_ctx: *mut c_void) -> u32 {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu, TimingMode::Sampled, ());
    }
    KEEP_FOR_OTHERS
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_kvm_entry_slow(ctx: *mut c_void) -> u32 {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu, TimingMode::All, EntryRecord(ctx));
    }
    KEEP_FOR_OTHERS
}

/// Empty program: measures the cost of a call.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn tp_empty(_ctx: *mut c_void) -> u32 {
    KEEP_FOR_OTHERS
}

/// Record of `kvm_entry`.
#[derive(Clone, Copy)]
struct EntryRecord(*mut c_void);

impl EntryArguments for EntryRecord {
    #[inline(always)]
    fn rip(self) -> Option<u64> {
        read(&TracePointContext::new(self.0), global!(KVM_ENTRY.at[0]))
    }
}

/// Defines one program per tracepoint: its handler in `event`, and the global with its record's offsets.
macro_rules! programs {
    ($($name:ident => $handler:ident, $layout:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "tracepoint")]
            fn $name(ctx: *mut c_void) -> u32 {
                let ctx = TracePointContext::new(ctx);
                event::$handler(&RecordArguments { ctx, at: |n| global!($layout.at[n]) });
                KEEP_FOR_OTHERS
            }
        )*
    };
}

programs! {
    tp_kvm_pio => pio, KVM_PIO;
    tp_kvm_mmio => mmio, KVM_MMIO;
    tp_kvm_fast_mmio => fast_mmio, KVM_FAST_MMIO;
    tp_kvm_msr => msr, KVM_MSR;
    tp_kvm_cpuid => cpuid, KVM_CPUID;
    tp_kvm_hypercall => hypercall, KVM_HYPERCALL;
    tp_kvm_hv_hypercall => hv_hypercall, KVM_HV_HYPERCALL;
    tp_kvm_page_fault => page_fault, KVM_PAGE_FAULT;
    tp_kvm_userspace_exit => userspace_exit, KVM_USERSPACE_EXIT;
    tp_kvm_vcpu_wakeup => vcpu_wakeup, KVM_VCPU_WAKEUP;
}

/// A record and the offsets of its fields.
struct RecordArguments<F> {
    ctx: TracePointContext,
    at: F,
}

impl<F: Fn(usize) -> Offset> Arguments for RecordArguments<F> {
    #[inline(always)]
    fn context(&self) -> Context {
        Context(self.ctx.as_ptr())
    }

    #[inline(always)]
    fn get<T: Copy + Into<u64>>(&self, n: usize) -> Option<u64> {
        read::<T>(&self.ctx, (self.at)(n)).map(Into::into)
    }
}

#[inline(always)]
fn on_exit(ctx: &TracePointContext, timing: TimingMode) -> u32 {
    if timing != TimingMode::All && !exit::is_counting() {
        return KEEP_FOR_OTHERS;
    }
    let context = Context(ctx.as_ptr());
    let Some(vcpu) = vcpu::current_or_new(context) else { return KEEP_FOR_OTHERS };
    let identity = || VcpuIdentity {
        vcpu_id: read(ctx, global!(EXIT_LAYOUT.vcpu_id)).unwrap_or(UNKNOWN_ID),
        isa: read(ctx, global!(EXIT_LAYOUT.isa)).unwrap_or(0),
    };
    if exit::settle_previous(context, vcpu, timing, identity) {
        let code: Option<u32> = read(ctx, global!(EXIT_LAYOUT.exit_reason));
        exit::begin(vcpu, code.map(u64::from), timing);
    }
    KEEP_FOR_OTHERS
}

/// Field of the record; `None` if this kernel has no such field.
#[inline(always)]
fn read<T>(ctx: &TracePointContext, offset: Offset) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the agent took the offset from the record's own description; the helper checks the
    // address all the same.
    unsafe { ctx.read_at::<T>(offset as usize) }.ok()
}
