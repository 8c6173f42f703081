//! The obvious design for the work that vmexit does: raw tracepoints, a hash table with each thread's exit
//! in flight, and sums by reason and by port.
//!
//! In place of the exit reason it reads two other fields, whose offsets are the same in all kernels. The
//! cost of a read does not depend on the field.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::{HashMap, PerCpuArray},
    programs::RawTracePointContext,
};

use crate::context::{now, thread};

/// An exit in flight.
#[repr(C)]
struct NaiveExit {
    ns: u64,
    reason: u32,
    port: u32,
}

/// Number of exits and the sum of their durations.
#[repr(C)]
struct NaiveRow {
    count: u64,
    ns: u64,
}

const REASONS: u32 = 128;
const PORTS: u32 = 0x1_0000;

/// Offset of `vcpu_id` in a `struct kvm_vcpu`, whose first field is `kvm`.
const VCPU_ID: usize = 36;

#[map]
static NAIVE_IN_FLIGHT: HashMap<u32, NaiveExit> = HashMap::with_max_entries(4096, 0);

#[map]
static NAIVE_REASONS: PerCpuArray<NaiveRow> = PerCpuArray::with_max_entries(REASONS, 0);

#[map]
static NAIVE_PORTS: PerCpuArray<NaiveRow> = PerCpuArray::with_max_entries(PORTS, 0);

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn naive_exit(ctx: RawTracePointContext) {
    let ns = now();
    let vcpu: *const u8 = ctx.arg(0);
    // SAFETY: the helper checks the address.
    let read = unsafe {
        (
            bpf_probe_read_kernel(vcpu.cast::<u64>()),
            bpf_probe_read_kernel(vcpu.wrapping_add(VCPU_ID).cast::<u32>()),
        )
    };
    let (Ok(kvm), Ok(vcpu_id)) = read else { return };
    let reason = vcpu_id + u32::from(kvm == 0);
    match NAIVE_IN_FLIGHT.get_ptr_mut(thread()) {
        // SAFETY: the thread's own entry, checked by the lookup.
        Some(exit) => unsafe {
            (*exit).ns = ns;
            (*exit).reason = reason;
        },
        None => {
            let _ = NAIVE_IN_FLIGHT.insert(thread(), NaiveExit { ns, reason, port: 0 }, 0);
        }
    }
}

#[raw_tracepoint(tracepoint = "kvm_pio")]
fn naive_pio(ctx: RawTracePointContext) {
    if let Some(exit) = NAIVE_IN_FLIGHT.get_ptr_mut(thread()) {
        // SAFETY: the thread's own entry, checked by the lookup.
        unsafe { (*exit).port = ctx.arg(1) };
    }
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn naive_entry(_ctx: RawTracePointContext) {
    let Some(exit) = NAIVE_IN_FLIGHT.get_ptr_mut(thread()) else { return };
    // SAFETY: the thread's own entry, checked by the lookup.
    let (began, reason, port) = unsafe { ((*exit).ns, (*exit).reason, (*exit).port) };
    if began == 0 {
        return;
    }
    let ns = now().wrapping_sub(began);
    charge(&NAIVE_REASONS, reason % REASONS, ns);
    if port != 0 {
        charge(&NAIVE_PORTS, port % PORTS, ns);
    }
    // SAFETY: as above.
    unsafe {
        (*exit).ns = 0;
        (*exit).port = 0;
    }
}

#[inline(always)]
fn charge(rows: &PerCpuArray<NaiveRow>, index: u32, ns: u64) {
    if let Some(row) = rows.get_ptr_mut(index) {
        // SAFETY: this CPU's own row, checked by the lookup.
        unsafe {
            (*row).count += 1;
            (*row).ns += ns;
        }
    }
}
