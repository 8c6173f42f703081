//! Entry of the current thread in the table of vCPU threads. The thread claims it at its first event and
//! frees it when it ends.

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns},
};
use aya_log_ebpf::warn;
use vmexit_common::{
    stats::VcpuCounters,
    vcpu::{IGNORED, NEW, NO_STATS, NOT_READY, PROBES, READY, UNKNOWN_ID, VcpuEntry},
};

use crate::{
    access::{add, load, store},
    maps::{self, FREE_STATS, VMS, count_loss, global},
};

/// Context of a program of any type: enough for logging.
#[derive(Clone, Copy)]
pub struct Context(pub *mut c_void);

impl EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// Entry of the current thread, if it has one.
#[inline(always)]
pub fn current() -> Option<*mut VcpuEntry> {
    let task = current_task();
    at_home(task).or_else(|| non_null(find(task)))
}

/// Entry of the current thread, claimed now if the thread is new: for programs that can be the first to
/// see a vCPU. `None` if the probe sequence is full.
#[inline(always)]
pub fn current_or_new(ctx: Context) -> Option<*mut VcpuEntry> {
    let task = current_task();
    at_home(task).or_else(|| non_null(find_or_claim(ctx, task)))
}

/// Stats block of a thread that has one.
#[inline(always)]
pub fn stats(vcpu: *mut VcpuEntry) -> Option<*mut VcpuCounters> {
    // SAFETY: a field of the entry.
    maps::stats(unsafe { &raw const (*vcpu).stats_index })
}

/// Makes an entry ready at the thread's exit: true if the thread's exits are recorded from now on.
#[inline(always)]
pub fn make_ready(ctx: Context, vcpu: *mut VcpuEntry, identity: impl Fn() -> VcpuIdentity) -> bool {
    if has_stats(ctx, vcpu) {
        return set_identity(vcpu, identity());
    }
    if load!(vcpu, state) == NO_STATS {
        count_loss!(vcpu_limit);
    }
    false
}

/// Whether the thread has a stats block. A thread without one tries again: userspace may have freed one
/// since.
#[inline(never)]
pub fn has_stats(ctx: Context, vcpu: *mut VcpuEntry) -> bool {
    match load!(vcpu, state) {
        IGNORED => false,
        NO_STATS => assign_stats(ctx, vcpu),
        _ => true,
    }
}

/// Properties of a vCPU that only `kvm_exit` reports.
pub struct VcpuIdentity {
    /// Number of the vCPU within its VM.
    pub vcpu_id: u32,
    /// Vendor of the exit codes.
    pub isa: u32,
}

/// Ends a thread: frees its entry, and marks its stats block as ended. Userspace reads the block a last
/// time and frees it.
#[inline(always)]
pub fn end(task: u64) {
    let Some(vcpu) = non_null(find(task)) else { return };
    if matches!(load!(vcpu, state), READY | NEW)
        && let Some(stats) = stats(vcpu)
    {
        store!(stats, ended, load!(vcpu, exits) + 1);
    }
    store!(vcpu, exit_ns, 0);
    store!(vcpu, exits, 0);
    store!(vcpu, detail, 0);
    store!(vcpu, user_ns, 0);
    store!(vcpu, state, NEW);
    store!(vcpu, task, 0);
}

#[inline(always)]
fn current_task() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_get_current_task() }
}

/// Entry of a task at its home, where nearly all are.
#[inline(always)]
fn at_home(task: u64) -> Option<*mut VcpuEntry> {
    let vcpu = entry(task, 0);
    (load!(vcpu, task) == task).then_some(vcpu)
}

/// Entry of a task; null if there is none. Not inlined, which keeps the programs' common path straight. A
/// pointer, unlike an `Option`, is returned in a register.
#[inline(never)]
fn find(task: u64) -> *mut VcpuEntry {
    for probe in 0..PROBES {
        let vcpu = entry(task, probe);
        if load!(vcpu, task) == task {
            return vcpu;
        }
    }
    ptr::null_mut()
}

/// Entry of a task, claimed if there is none; null if the probe sequence is full.
#[inline(never)]
fn find_or_claim(ctx: Context, task: u64) -> *mut VcpuEntry {
    let vcpu = find(task);
    if vcpu.is_null() { claim(ctx, task) } else { vcpu }
}

#[inline(always)]
fn non_null(vcpu: *mut VcpuEntry) -> Option<*mut VcpuEntry> {
    (!vcpu.is_null()).then_some(vcpu)
}

#[inline(always)]
fn entry(task: u64, probe: usize) -> *mut VcpuEntry {
    // SAFETY: the offset is within the table.
    unsafe { maps::vcpus().byte_add(VcpuEntry::offset(task, probe)) }
}

/// Claims an entry, and a stats block if the thread is traced. Happens once per thread.
#[inline(always)]
fn claim(ctx: Context, task: u64) -> *mut VcpuEntry {
    for probe in 0..PROBES {
        let vcpu = entry(task, probe);
        if !take(vcpu, task) {
            continue;
        }
        store!(vcpu, exit_ns, NOT_READY);
        if is_traced((bpf_get_current_pid_tgid() >> 32) as u32) {
            assign_stats(ctx, vcpu);
        } else {
            store!(vcpu, state, IGNORED);
        }
        return vcpu;
    }
    if let Some(loss) = maps::loss() {
        if load!(loss, vcpu_table_full) == 0 {
            warn!(&ctx, "the table of vCPU threads is full: some are not counted");
        }
        add!(loss, vcpu_table_full, 1);
    }
    ptr::null_mut()
}

/// Claims the entry atomically: false if another thread has it. Two threads can try at the same time.
///
/// In assembly, since rustc has no compare-and-exchange on this target. Kernels have it from 5.12 on.
#[inline(always)]
fn take(vcpu: *mut VcpuEntry, task: u64) -> bool {
    let found: u64;
    // SAFETY: an aligned field of a map value; nothing else is touched.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({owner} + 0, r0, {task})",
            owner = in(reg) &raw mut (*vcpu).task,
            task = in(reg) task,
            inout("r0") 0u64 => found,
            options(nostack),
        );
    }
    found == 0
}

/// Whether the filter includes the process.
#[inline(always)]
fn is_traced(pid: u32) -> bool {
    // SAFETY: the value is not read; only the presence of the key matters.
    global!(FILTER) == 0 || unsafe { VMS.get(pid) }.is_some()
}

/// Assigns a free stats block to the entry, if there is one.
#[inline(always)]
fn assign_stats(ctx: Context, vcpu: *mut VcpuEntry) -> bool {
    let thread = bpf_get_current_pid_tgid();
    let free = FREE_STATS.pop().ok().flatten();
    if let Some(index) = free {
        store!(vcpu, stats_index, index);
        let Some(stats) = stats(vcpu) else { return false };
        store!(stats, vcpu_id, UNKNOWN_ID);
        // SAFETY: a helper without preconditions.
        store!(stats, since_ns, unsafe { bpf_ktime_get_ns() });
        store!(stats, thread, thread);
        store!(vcpu, state, NEW);
        return true;
    }
    if load!(vcpu, state) != NO_STATS {
        store!(vcpu, state, NO_STATS);
        warn!(&ctx, "no free stats block for thread {}: raise --max-vcpus", thread as u32);
    }
    false
}

/// Sets the identity in the stats block at the thread's first exit, and makes the entry ready.
#[inline(always)]
fn set_identity(vcpu: *mut VcpuEntry, identity: VcpuIdentity) -> bool {
    let Some(stats) = stats(vcpu) else { return false };
    store!(stats, vcpu_id, identity.vcpu_id);
    store!(stats, isa, identity.isa);
    store!(vcpu, state, READY);
    store!(vcpu, exit_ns, 0);
    true
}
