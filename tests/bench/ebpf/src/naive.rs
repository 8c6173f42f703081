//! The obvious way to do what vmexit does: raw tracepoints, an open exit for each thread in a hash
//! table, and sums by reason and by port.
//!
//! For the reason it reads two other fields, whose places are the same in all kernels: what a read
//! costs does not depend on what is read.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::{HashMap, PerCpuArray},
    programs::RawTracePointContext,
};

use crate::context::{now, thread};

#[repr(C)]
struct NaiveExit {
    ns: u64,
    reason: u32,
    port: u32,
}

#[repr(C)]
struct NaiveRow {
    count: u64,
    ns: u64,
}

const REASONS: u32 = 128;
const PORTS: u32 = 0x1_0000;

/// `vcpu_id` of a `struct kvm_vcpu`; `kvm` is its first field.
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
        // SAFETY: the thread's own entry, checked by the look-up.
        Some(open) => unsafe {
            (*open).ns = ns;
            (*open).reason = reason;
        },
        None => {
            let _ = NAIVE_IN_FLIGHT.insert(thread(), NaiveExit { ns, reason, port: 0 }, 0);
        }
    }
}

#[raw_tracepoint(tracepoint = "kvm_pio")]
fn naive_pio(ctx: RawTracePointContext) {
    if let Some(open) = NAIVE_IN_FLIGHT.get_ptr_mut(thread()) {
        // SAFETY: the thread's own entry, checked by the look-up.
        unsafe { (*open).port = ctx.arg(1) };
    }
}

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn naive_entry(_ctx: RawTracePointContext) {
    let Some(open) = NAIVE_IN_FLIGHT.get_ptr_mut(thread()) else { return };
    // SAFETY: the thread's own entry, checked by the look-up.
    let (began, reason, port) = unsafe { ((*open).ns, (*open).reason, (*open).port) };
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
        (*open).ns = 0;
        (*open).port = 0;
    }
}

#[inline(always)]
fn charge(rows: &PerCpuArray<NaiveRow>, index: u32, ns: u64) {
    if let Some(row) = rows.get_ptr_mut(index) {
        // SAFETY: this CPU's own row, checked by the look-up.
        unsafe {
            (*row).count += 1;
            (*row).ns += ns;
        }
    }
}
