//! The current thread's entry in the table of vCPUs: found at once while it lives, claimed by the
//! thread itself when it is first seen, given back when it ends.

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

/// What a program was called with, whatever that is: enough to log.
#[derive(Clone, Copy)]
pub struct Context(pub *mut c_void);

impl EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// The entry of the thread that runs, if it has one.
#[inline(always)]
pub fn current() -> Option<*mut VcpuEntry> {
    let task = current_task();
    at_home(task).or_else(|| non_null(find(task)))
}

/// As [`current`], for programs that may see a vCPU first: claims an entry for a new thread. `None` where
/// the table has no room.
#[inline(always)]
pub fn current_or_new(ctx: Context) -> Option<*mut VcpuEntry> {
    let task = current_task();
    at_home(task).or_else(|| non_null(find_or_claim(ctx, task)))
}

/// The book of a thread that has one.
#[inline(always)]
pub fn stats(vcpu: *mut VcpuEntry) -> Option<*mut VcpuCounters> {
    // SAFETY: a field of the entry.
    maps::stats(unsafe { &raw const (*vcpu).stats_index })
}

/// Whether the exits of a thread whose entry is blocked can be booked from now on.
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

/// Whether the thread has a book. One that found none looks again: userspace may have returned one
/// since.
#[inline(never)]
pub fn has_stats(ctx: Context, vcpu: *mut VcpuEntry) -> bool {
    match load!(vcpu, state) {
        IGNORED => false,
        NO_STATS => assign_stats(ctx, vcpu),
        _ => true,
    }
}

/// What only `kvm_exit` tells of a vCPU.
pub struct VcpuIdentity {
    /// The vCPU's number within its VM.
    pub vcpu_id: u32,
    /// Whose exit codes these are.
    pub isa: u32,
}

/// The thread has ended: gives its entry back, and leaves its book to userspace to read and return.
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

/// The entry of a task that is where its search begins: that of nearly all.
#[inline(always)]
fn at_home(task: u64) -> Option<*mut VcpuEntry> {
    let vcpu = entry(task, 0);
    (load!(vcpu, task) == task).then_some(vcpu)
}

/// Null if there is none: apart from the programs, so that these are straight to the point, and a
/// function returns a pointer in a register.
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

/// Null if there is none and no room for one.
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
    // SAFETY: a place is within the table.
    unsafe { maps::vcpus().byte_add(VcpuEntry::offset(task, probe)) }
}

/// Once in a thread's life.
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

/// Makes the entry this thread's unless another thread has it: two may want the same at once.
/// In assembly, for rustc declares no compare-and-exchange on this target; kernels have it from 5.12.
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

#[inline(always)]
fn is_traced(pid: u32) -> bool {
    // SAFETY: userspace may change the map's values, never these keys' meaning.
    global!(FILTER) == 0 || unsafe { VMS.get(pid) }.is_some()
}

/// Gives the entry a free book, if there is one.
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
        warn!(&ctx, "no free book for thread {}: raise --max-vcpus", thread as u32);
    }
    false
}

/// The first exit of a thread that has a book.
#[inline(always)]
fn set_identity(vcpu: *mut VcpuEntry, identity: VcpuIdentity) -> bool {
    let Some(stats) = stats(vcpu) else { return false };
    store!(stats, vcpu_id, identity.vcpu_id);
    store!(stats, isa, identity.isa);
    store!(vcpu, state, READY);
    store!(vcpu, exit_ns, 0);
    true
}
