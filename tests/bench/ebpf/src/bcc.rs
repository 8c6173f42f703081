//! Comparator for `tools/kvmexit.py` of bcc 0.37 (commit 1cc15c3d), which counts exits by thread and
//! reason. It takes no times, so it traces `kvm_exit` only.
//!
//! A per-CPU cache of the last thread saves the hash lookup until another vCPU runs on the CPU. All counts
//! of the thread are then copied out and those of the next one in: one count per exit code up to the
//! vendor's highest. Like every bcc program on a tracepoint, it returns 0.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel},
    macros::{map, tracepoint},
    maps::{PerCpuArray, PerCpuHashMap},
    programs::TracePointContext,
};

use crate::context::exit_reason;

/// Number of exit codes that the tool knows for Intel: the highest plus one.
const VMX: usize = 77;

/// Number of exit codes that the tool knows for AMD.
const SVM: usize = 0x404;

/// Entries of each hash table.
const THREADS: u32 = 1024;

/// Exits of one thread by exit code.
#[repr(C)]
struct BccCounts<const REASONS: usize>([u64; REASONS]);

/// The last thread on a CPU and its counts.
#[repr(C)]
struct BccCache<const REASONS: usize> {
    thread: u64,
    counts: BccCounts<REASONS>,
}

/// Zeros: the initial counts of a thread.
#[map]
static BCC_VMX_INIT: PerCpuArray<BccCounts<VMX>> = PerCpuArray::with_max_entries(1, 0);

/// Counts by process and thread ID.
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
    // SAFETY: pointers to map values, checked by their lookups; each CPU has its own copies.
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
