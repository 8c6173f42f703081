//! Programs on raw tracepoints: the fast path. They get the tracepoint's arguments before the kernel
//! builds a record from them. Fields behind a pointer are read at offsets that the agent took from the
//! running kernel's BTF.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    EbpfContext, helpers::bpf_probe_read_kernel, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use vmexit_common::{
    cast::UNRESOLVED,
    layout::{RIP, reason_in},
    vcpu::UNKNOWN_ID,
};

use crate::{
    event::{self, Arguments},
    exit::{self, TimingMode},
    maps::global,
    slow::EntryArguments,
    vcpu::{self, Context, VcpuIdentity},
};

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit(ctx: RawTracePointContext) {
    on_exit(&ctx, TimingMode::All);
}

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_some(ctx: RawTracePointContext) {
    on_exit(&ctx, TimingMode::Sampled);
}

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_count(ctx: RawTracePointContext) {
    on_exit(&ctx, TimingMode::Off);
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn kvm_entry(_ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu, TimingMode::All, ());
    }
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn kvm_entry_some(_ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu, TimingMode::Sampled, ());
    }
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn kvm_entry_slow(ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpu::current() {
        exit::end(vcpu, TimingMode::All, RawEntry(ctx.as_ptr()));
    }
}

/// Empty program: measures the cost of a call.
#[raw_tracepoint(tracepoint = "task_rename")]
fn empty(_ctx: RawTracePointContext) {}

/// Arguments of `kvm_entry`; the vCPU is the first.
#[derive(Clone, Copy)]
struct RawEntry(*mut c_void);

impl EntryArguments for RawEntry {
    #[inline(always)]
    fn rip(self) -> Option<u64> {
        let (rip, cached) = (global!(RAW_ENTRY_LAYOUT.rip), global!(RAW_ENTRY_LAYOUT.cached));
        if rip == 0 {
            return None;
        }
        let kvm_vcpu: u64 = RawTracePointContext::new(self.0).arg(0);
        if cached != 0 {
            // SAFETY: the helper checks the address.
            let cached =
                unsafe { bpf_probe_read_kernel((kvm_vcpu + cached) as *const u32) }.ok()?;
            if cached & 1 << RIP == 0 {
                return None;
            }
        }
        // SAFETY: as above.
        unsafe { bpf_probe_read_kernel((kvm_vcpu + rip) as *const u64) }.ok()
    }
}

/// Defines one program per tracepoint. Its handler in `event` reads the arguments in the order of the
/// agent's table of tracepoints.
macro_rules! programs {
    ($($name:ident => $handler:ident,)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "raw_tp")]
            fn $name(ctx: *mut c_void) -> u32 {
                event::$handler(&RawArguments::<0>(RawTracePointContext::new(ctx)));
                0
            }
        )*
    };
}

programs! {
    kvm_pio => pio,
    kvm_mmio => mmio,
    kvm_fast_mmio => fast_mmio,
    kvm_msr => msr,
    kvm_cpuid => cpuid,
    kvm_hypercall => hypercall,
    kvm_hv_hypercall => hv_hypercall,
    kvm_userspace_exit => userspace_exit,
    kvm_vcpu_wakeup => vcpu_wakeup,
}

/// `(vcpu, …)`: the fields follow the vCPU.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
fn kvm_page_fault(ctx: RawTracePointContext) {
    event::page_fault(&RawArguments::<1>(ctx));
}

/// Arguments of a raw tracepoint from number `FIRST` on.
struct RawArguments<const FIRST: usize>(RawTracePointContext);

impl<const FIRST: usize> Arguments for RawArguments<FIRST> {
    #[inline(always)]
    fn context(&self) -> Context {
        Context(self.0.as_ptr())
    }

    /// Argument number `n`. The kernel zero-extends all of them (`CAST_TO_U64`,
    /// include/trace/bpf_probe.h).
    #[inline(always)]
    fn get<T: Copy + Into<u64>>(&self, n: usize) -> Option<u64> {
        Some(self.0.arg(FIRST + n))
    }
}

/// `(task, …)`: the task is the current thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) {
    vcpu::end(ctx.arg(0));
}

#[inline(always)]
fn on_exit(ctx: &RawTracePointContext, timing: TimingMode) {
    if timing != TimingMode::All && !exit::is_counting() {
        return;
    }
    let context = Context(ctx.as_ptr());
    let Some(vcpu) = vcpu::current_or_new(context) else { return };
    let identity =
        || VcpuIdentity { vcpu_id: vcpu_id(ctx), isa: global!(RAW_EXIT_LAYOUT.isa) as u32 };
    if exit::settle_previous(context, vcpu, timing, identity) {
        exit::begin(vcpu, reason(ctx), timing);
    }
}

/// Number of the vCPU within its VM.
#[inline(always)]
fn vcpu_id(ctx: &RawTracePointContext) -> u32 {
    read_u32(kvm_vcpu(ctx) + global!(RAW_EXIT_LAYOUT.vcpu_id)).unwrap_or(UNKNOWN_ID)
}

/// Exit code: 32 bits, zero-extended. An argument is zero-extended by the kernel.
#[inline(always)]
fn reason(ctx: &RawTracePointContext) -> Option<u64> {
    let at = match global!(RAW_EXIT_LAYOUT.reason_in) {
        // The argument before the vCPU.
        reason_in::ARGUMENT => return Some(ctx.arg(0)),
        reason_in::FIELD => ctx.arg(0),
        _ => read_u64(ctx.arg::<u64>(0) + global!(RAW_EXIT_LAYOUT.pointer))?,
    };
    read_u32(at + global!(RAW_EXIT_LAYOUT.reason)).map(u64::from)
}

/// Address of the vCPU: the second argument if the first is the exit code, else the first.
#[inline(always)]
fn kvm_vcpu(ctx: &RawTracePointContext) -> u64 {
    if global!(RAW_EXIT_LAYOUT.reason_in) == reason_in::ARGUMENT {
        // SAFETY: an empty statement. It keeps the compiler from merging the two loads into one whose
        // offset is not a constant, which the verifier rejects.
        unsafe { asm!("", options(nostack)) };
        return ctx.arg(1);
    }
    ctx.arg(0)
}

/// Reads 32 bits of a kernel object.
#[inline(always)]
fn read_u32(address: u64) -> Option<u32> {
    let to = global!(RAW_EXIT_LAYOUT.cast_to);
    if to != 0 {
        // SAFETY: the verifier allows the load, and the kernel handles a fault in it.
        return Some(unsafe { cast(address, to).cast::<u32>().read_volatile() });
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u32) }.ok()
}

/// Reads 64 bits of a kernel object.
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

/// Turns a kernel address into a pointer that the verifier allows loads from (see
/// [`vmexit_common::cast`]).
#[inline(always)]
fn cast(address: u64, to: u64) -> *const u64 {
    let pointer;
    // SAFETY: the kernel function returns its first argument and has no other effect.
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
