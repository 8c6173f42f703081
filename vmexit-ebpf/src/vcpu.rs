//! The current thread's entry in the table of vCPUs: found at once while it lives, claimed by the
//! thread itself when it is first seen, given back when it ends.

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns},
};
use aya_log_ebpf::warn;
use vmexit_common::{
    book::Counts,
    vcpu::{BLOCKED, IGNORED, NEW, NO_BOOK, PROBES, READY, UNKNOWN_ID, Vcpu},
};

use crate::{
    access::{add, load, store},
    maps::{self, FREE_BOOKS, VMS, count_loss, global},
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
pub fn current() -> Option<*mut Vcpu> {
    let task = current_task();
    at_home(task).or_else(|| non_null(find(task)))
}

/// As [`current`], for programs that may see a vCPU first: claims an entry for a new thread. `None` where
/// the table has no room.
#[inline(always)]
pub fn current_or_new(ctx: Context) -> Option<*mut Vcpu> {
    let task = current_task();
    at_home(task).or_else(|| non_null(find_or_claim(ctx, task)))
}

/// The book of a thread that has one.
#[inline(always)]
pub fn book(vcpu: *mut Vcpu) -> Option<*mut Counts> {
    // SAFETY: a field of the entry.
    maps::book(unsafe { &raw const (*vcpu).book })
}

/// Whether the exits of a thread whose entry is blocked can be booked from now on.
#[inline(always)]
pub fn unblock(ctx: Context, vcpu: *mut Vcpu, identity: impl Fn() -> Identity) -> bool {
    if has_book(ctx, vcpu) {
        return introduce(vcpu, identity());
    }
    if load!(vcpu, state) == NO_BOOK {
        count_loss!(no_book);
    }
    false
}

/// Whether the thread has a book. One that found none looks again: userspace may have returned one
/// since.
#[inline(never)]
pub fn has_book(ctx: Context, vcpu: *mut Vcpu) -> bool {
    match load!(vcpu, state) {
        IGNORED => false,
        NO_BOOK => assign_book(ctx, vcpu),
        _ => true,
    }
}

/// What only `kvm_exit` tells of a vCPU.
pub struct Identity {
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
        && let Some(book) = book(vcpu)
    {
        store!(book, ended, load!(vcpu, exits) + 1);
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
fn at_home(task: u64) -> Option<*mut Vcpu> {
    let vcpu = entry(task, 0);
    (load!(vcpu, task) == task).then_some(vcpu)
}

/// Null if there is none: apart from the programs, so that these are straight to the point, and a
/// function returns a pointer in a register.
#[inline(never)]
fn find(task: u64) -> *mut Vcpu {
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
fn find_or_claim(ctx: Context, task: u64) -> *mut Vcpu {
    let vcpu = find(task);
    if vcpu.is_null() { claim(ctx, task) } else { vcpu }
}

#[inline(always)]
fn non_null(vcpu: *mut Vcpu) -> Option<*mut Vcpu> {
    (!vcpu.is_null()).then_some(vcpu)
}

#[inline(always)]
fn entry(task: u64, probe: usize) -> *mut Vcpu {
    // SAFETY: a place is within the table.
    unsafe { maps::vcpus().byte_add(Vcpu::place(task, probe)) }
}

/// Once in a thread's life.
#[inline(always)]
fn claim(ctx: Context, task: u64) -> *mut Vcpu {
    for probe in 0..PROBES {
        let vcpu = entry(task, probe);
        if !take(vcpu, task) {
            continue;
        }
        store!(vcpu, exit_ns, BLOCKED);
        if is_wanted((bpf_get_current_pid_tgid() >> 32) as u32) {
            assign_book(ctx, vcpu);
        } else {
            store!(vcpu, state, IGNORED);
        }
        return vcpu;
    }
    if let Some(loss) = maps::loss() {
        if load!(loss, no_vcpu_entry) == 0 {
            warn!(&ctx, "the table of vCPU threads is full: some are not counted");
        }
        add!(loss, no_vcpu_entry, 1);
    }
    ptr::null_mut()
}

/// Makes the entry this thread's unless another thread has it: two may want the same at once.
/// In assembly, for rustc declares no compare-and-exchange on this target; kernels have it from 5.12.
#[inline(always)]
fn take(vcpu: *mut Vcpu, task: u64) -> bool {
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
fn is_wanted(pid: u32) -> bool {
    // SAFETY: userspace may change the map's values, never these keys' meaning.
    global!(FILTER) == 0 || unsafe { VMS.get(pid) }.is_some()
}

/// Gives the entry a free book, if there is one.
#[inline(always)]
fn assign_book(ctx: Context, vcpu: *mut Vcpu) -> bool {
    let thread = bpf_get_current_pid_tgid();
    let free = FREE_BOOKS.pop().ok().flatten();
    if let Some(index) = free {
        store!(vcpu, book, index);
        let Some(book) = book(vcpu) else { return false };
        store!(book, vcpu_id, UNKNOWN_ID);
        // SAFETY: a helper without preconditions.
        store!(book, since_ns, unsafe { bpf_ktime_get_ns() });
        store!(book, thread, thread);
        store!(vcpu, state, NEW);
        return true;
    }
    if load!(vcpu, state) != NO_BOOK {
        store!(vcpu, state, NO_BOOK);
        warn!(&ctx, "no free book for thread {}: raise --max-vcpus", thread as u32);
    }
    false
}

/// The first exit of a thread that has a book.
#[inline(always)]
fn introduce(vcpu: *mut Vcpu, identity: Identity) -> bool {
    let Some(book) = book(vcpu) else { return false };
    store!(book, vcpu_id, identity.vcpu_id);
    store!(book, isa, identity.isa);
    store!(vcpu, state, READY);
    store!(vcpu, exit_ns, 0);
    true
}
