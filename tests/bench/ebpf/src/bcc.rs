//! As `tools/kvmexit.py` of bcc 0.37 counts (commit 1cc15c3d): exits by thread and reason. It counts
//! and takes no times, so `kvm_exit` is all that it needs.
//!
//! A cache of the last thread on each CPU spares it the hash table until another vCPU runs there; then
//! it copies all of a thread's counts, one for each code up to the vendor's highest, out and in. Like
//! every program of bcc's on a tracepoint it returns 0.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel},
    macros::{map, tracepoint},
    maps::{PerCpuArray, PerCpuHashMap},
    programs::TracePointContext,
};

use crate::context::exit_reason;

/// The highest code that it knows for Intel, and one.
const VMX: usize = 77;

/// The same for AMD.
const SVM: usize = 0x404;

const THREADS: u32 = 1024;

#[repr(C)]
struct BccCounts<const REASONS: usize>([u64; REASONS]);

#[repr(C)]
struct BccCache<const REASONS: usize> {
    thread: u64,
    counts: BccCounts<REASONS>,
}

/// Zeros, to begin a thread with.
#[map]
static BCC_VMX_INIT: PerCpuArray<BccCounts<VMX>> = PerCpuArray::with_max_entries(1, 0);

/// By process and thread id.
#[map]
static BCC_VMX_STAT: PerCpuHashMap<u64, BccCounts<VMX>> =
    PerCpuHashMap::with_max_entries(THREADS, 0);

#[map]
static BCC_VMX_CACHE: PerCpuArray<BccCache<VMX>> = PerCpuArray::with_max_entries(1, 0);

#[map]
static BCC_SVM_INIT: PerCpuArray<BccCounts<SVM>> = PerCpuArray::with_max_entries(1, 0);

#[map]
static BCC_SVM_STAT: PerCpuHashMap<u64, BccCounts<SVM>> =
    PerCpuHashMap::with_max_entries(THREADS, 0);

#[map]
static BCC_SVM_CACHE: PerCpuArray<BccCache<SVM>> = PerCpuArray::with_max_entries(1, 0);

#[tracepoint]
fn bcc_vmx_exit(ctx: TracePointContext) {
    count(&ctx, &BCC_VMX_INIT, &BCC_VMX_STAT, &BCC_VMX_CACHE);
}

#[tracepoint]
fn bcc_svm_exit(ctx: TracePointContext) {
    count(&ctx, &BCC_SVM_INIT, &BCC_SVM_STAT, &BCC_SVM_CACHE);
}

#[inline(always)]
fn count<const REASONS: usize>(
    ctx: &TracePointContext,
    init: &PerCpuArray<BccCounts<REASONS>>,
    stat: &PerCpuHashMap<u64, BccCounts<REASONS>>,
    cache: &PerCpuArray<BccCache<REASONS>>,
) -> Option<()> {
    let reason = exit_reason(ctx.as_ptr()) as usize;
    if reason >= REASONS {
        return None;
    }
    let thread = bpf_get_current_pid_tgid();
    let cache = cache.get_ptr_mut(0)?;
    // SAFETY: pointers to map values, checked by their look-ups; a CPU's own copies.
    unsafe {
        if (*cache).thread == thread {
            (*cache).counts.0[reason] += 1;
        } else {
            let counts = match stat.get_ptr_mut(thread) {
                Some(counts) => counts,
                None => {
                    let _ = stat.insert(thread, &*init.get_ptr(0)?, 0);
                    stat.get_ptr_mut(thread)?
                }
            };
            (*counts).0[reason] += 1;
            if (*cache).thread != 0 {
                let _ = stat.insert((*cache).thread, &(*cache).counts, 0);
            }
            (*cache).thread = thread;
            let to = (&raw mut (*cache).counts).cast();
            bpf_probe_read_kernel(to, size_of::<BccCounts<REASONS>>() as u32, counts.cast());
        }
    }
    Some(())
}
