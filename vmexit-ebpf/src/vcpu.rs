//! The current thread's entry in the table of vCPUs: found in one look-up once it is there, and
//! claimed by the thread itself when it is first seen.

use core::arch::asm;

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_pid_tgid};
use aya_log_ebpf::warn;
use vmexit_common::vcpu::{IGNORED, NO_BOOK, PROBES, UNKNOWN_ID, Vcpu};

use crate::{
    access::{add, load, store},
    maps::{self, FREE_BOOKS, VCPUS, VMS},
};

/// The entry of the thread that runs, if it has one.
///
/// Thread ids of one VM's vCPUs mostly follow one another, so their low bits spread well. The whole
/// of process and thread id is compared: a thread id that comes back in another process does not
/// inherit anything.
#[inline(always)]
pub fn current() -> Option<*mut Vcpu> {
    find(bpf_get_current_pid_tgid())
}

/// As [`current`], for programs that may see a vCPU first: claims an entry for a new thread.
/// `None` where the table has no room (counted) and for threads that the filter leaves out.
#[inline(always)]
pub fn current_or_new<C: EbpfContext>(ctx: &C) -> Option<*mut Vcpu> {
    let thread = bpf_get_current_pid_tgid();
    let vcpu = match find(thread) {
        Some(vcpu) => vcpu,
        None => claim(ctx, thread)?,
    };
    (load!(vcpu, book) != IGNORED).then_some(vcpu)
}

#[inline(always)]
fn find(thread: u64) -> Option<*mut Vcpu> {
    for probe in 0..PROBES {
        let vcpu = entry(thread, probe)?;
        if load!(vcpu, thread) == thread {
            return Some(vcpu);
        }
    }
    None
}

#[inline(always)]
fn entry(thread: u64, probe: u32) -> Option<*mut Vcpu> {
    VCPUS.get_ptr_mut((thread as u32).wrapping_add(probe) & maps::vcpu_mask())
}

/// Once in a thread's life.
#[inline(always)]
fn claim<C: EbpfContext>(ctx: &C, thread: u64) -> Option<*mut Vcpu> {
    for probe in 0..PROBES {
        let vcpu = entry(thread, probe)?;
        if !take(vcpu, thread) {
            continue;
        }
        store!(vcpu, vcpu_id, UNKNOWN_ID);
        let book = if is_wanted((thread >> 32) as u32) { free_book() } else { IGNORED };
        store!(vcpu, book, book);
        if book == NO_BOOK {
            warn!(ctx, "no free book for thread {}: raise --max-vcpus", thread as u32);
        }
        return Some(vcpu);
    }
    let loss = maps::loss()?;
    if load!(loss, no_vcpu_entry) == 0 {
        warn!(ctx, "no free entry for thread {}: raise --max-vcpus", thread as u32);
    }
    add!(loss, no_vcpu_entry, 1);
    None
}

/// Makes the entry this thread's unless another thread has it: two may want the same at once.
/// In assembly, for rustc declares no compare-and-exchange on this target; kernels have it from 5.12.
#[inline(always)]
fn take(vcpu: *mut Vcpu, thread: u64) -> bool {
    let found: u64;
    // SAFETY: an aligned field of a map value; nothing else is touched.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({owner} + 0, r0, {thread})",
            owner = in(reg) &raw mut (*vcpu).thread,
            thread = in(reg) thread,
            inout("r0") 0u64 => found,
            options(nostack),
        );
    }
    found == 0
}

#[inline(always)]
fn is_wanted(pid: u32) -> bool {
    // SAFETY: userspace may change the map's values, never these keys' meaning.
    !maps::filter() || unsafe { VMS.get(pid) }.is_some()
}

/// Takes a book from the free ones; [`NO_BOOK`] if there is none.
#[inline(always)]
pub fn free_book() -> u32 {
    match FREE_BOOKS.pop() {
        Ok(Some(book)) => book,
        _ => NO_BOOK,
    }
}
