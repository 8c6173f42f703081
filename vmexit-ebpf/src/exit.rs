//! One exit, from `kvm_exit` to the `kvm_entry` that ends it: stamped, then booked whole on its
//! reason and on what it was for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use vmexit_common::{
    book::Book,
    key::Key,
    vcpu::{UNTIMED, Vcpu},
};

use crate::{
    access::{add, load, store},
    book,
    maps::{self, BOOKS},
    vcpu,
};

/// Which exits are timed. Every exit is counted all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Every one.
    All,
    /// One in so many, by chance.
    Some,
    /// None; they are booked when they begin, and `kvm_entry` need not be traced.
    None,
}

/// The guest left with this exit code.
///
/// A noted detail stays: up to 6.3, SVM's fast path reports an MSR write before its exit
/// (`svm_exit_handlers_fastpath` runs ahead of `trace_kvm_exit`).
#[inline(always)]
pub fn begin(vcpu: *mut Vcpu, code: u32, timing: Timing) {
    let seq = load!(vcpu, exits_seq);
    store!(vcpu, exits_seq, seq + 1);
    match timing {
        Timing::All => open(vcpu, code, true),
        Timing::Some => open(vcpu, code, is_chosen(seq)),
        Timing::None => count_now(vcpu, code),
    }
    store!(vcpu, exits_seq, seq + 2);
}

#[inline(always)]
fn open(vcpu: *mut Vcpu, code: u32, timed: bool) {
    if load!(vcpu, exit_ns) != 0 {
        add!(vcpu, lost_no_entry, 1);
        forget_detail(vcpu);
    }
    store!(vcpu, exit_code, code);
    // SAFETY: a helper without preconditions.
    store!(vcpu, exit_ns, if timed { unsafe { bpf_ktime_get_ns() } } else { UNTIMED });
}

/// Whether this exit is one in so many. Scattered by a multiplication, for a guest that does the same
/// round over and over would else be timed at the same point of it each time.
#[inline(always)]
fn is_chosen(seq: u64) -> bool {
    let scattered = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    scattered <= maps::timing_share()
}

#[inline(always)]
fn count_now(vcpu: *mut Vcpu, code: u32) {
    let seq = load!(vcpu, books_seq);
    store!(vcpu, books_seq, seq + 1);
    match book_of(vcpu) {
        Some(book) => {
            // SAFETY: within the book that the look-up returned.
            let reasons = unsafe { &raw mut (*book).reasons };
            book::add_up(reasons, Key::reason(code), None);
        }
        None => add!(vcpu, lost_no_book, 1),
    }
    store!(vcpu, books_seq, seq + 2);
}

/// The guest is about to run again.
#[inline(always)]
pub fn end(vcpu: *mut Vcpu) {
    let began = load!(vcpu, exit_ns);
    if began == 0 {
        // Nothing is open: the first entry of a vCPU, one after a run that failed, or a thread that
        // the filter leaves out.
        forget_detail(vcpu);
        return;
    }
    // SAFETY: a helper without preconditions.
    let now = || unsafe { bpf_ktime_get_ns() };
    let ns = (began != UNTIMED).then(|| now().saturating_sub(began));
    let seq = load!(vcpu, books_seq);
    store!(vcpu, books_seq, seq + 1);
    match book_of(vcpu) {
        Some(book) => close(vcpu, book, ns),
        None => add!(vcpu, lost_no_book, 1),
    }
    forget_detail(vcpu);
    store!(vcpu, exit_ns, 0);
    store!(vcpu, books_seq, seq + 2);
}

/// Books the open exit; `ns` is how long it took, if it was timed.
#[inline(always)]
fn close(vcpu: *mut Vcpu, book: *mut Book, ns: Option<u64>) {
    // SAFETY: within the book that a look-up has returned.
    let (reasons, details) = unsafe { (&raw mut (*book).reasons, &raw mut (*book).details) };
    book::add_up(reasons, Key::reason(load!(vcpu, exit_code)), ns);
    let detail = Key(load!(vcpu, detail));
    if detail != Key::NONE {
        let row = book::add_up(details, detail, ns);
        book::note_accesses(row, load!(vcpu, accesses), load!(vcpu, sizes));
    }
}

/// This thread's book. One that has none looks again: userspace may have returned one since.
#[inline(always)]
fn book_of(vcpu: *mut Vcpu) -> Option<*mut Book> {
    let book = BOOKS.get_ptr_mut(load!(vcpu, book));
    if book.is_some() {
        return book;
    }
    let index = vcpu::free_book();
    store!(vcpu, book, index);
    BOOKS.get_ptr_mut(index)
}

#[inline(always)]
fn forget_detail(vcpu: *mut Vcpu) {
    store!(vcpu, detail, Key::NONE.0);
}
