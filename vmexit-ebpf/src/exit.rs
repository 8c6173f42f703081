//! One exit, from `kvm_exit` to the `kvm_entry` that ends it: stamped, then booked whole on its
//! reason and on what it was for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use vmexit_common::{book::Book, key::Key, vcpu::Vcpu};

use crate::{
    access::{add, load, store},
    book::{charge, note_accesses},
    maps::BOOKS,
    vcpu,
};

/// The guest left with this exit code.
///
/// A noted detail stays: up to 6.3, SVM's fast path reports an MSR write before its exit
/// (`svm_exit_handlers_fastpath` runs ahead of `trace_kvm_exit`).
#[inline(always)]
pub fn begin(vcpu: *mut Vcpu, code: u32) {
    let seq = load!(vcpu, exits_seq);
    store!(vcpu, exits_seq, seq + 1);
    if load!(vcpu, exit_ns) != 0 {
        add!(vcpu, lost_no_entry, 1);
        forget_detail(vcpu);
    }
    store!(vcpu, exit_code, code);
    // SAFETY: a helper without preconditions.
    store!(vcpu, exit_ns, unsafe { bpf_ktime_get_ns() });
    store!(vcpu, exits_seq, seq + 2);
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
    let ns = unsafe { bpf_ktime_get_ns() }.saturating_sub(began);

    let seq = load!(vcpu, books_seq);
    store!(vcpu, books_seq, seq + 1);
    match book_of(vcpu) {
        Some(book) => {
            // SAFETY: within the book that the look-up returned.
            let (reasons, details) =
                unsafe { (&raw mut (*book).reasons, &raw mut (*book).details) };
            charge(reasons, Key::reason(load!(vcpu, exit_code)), ns);
            let detail = load!(vcpu, detail);
            if detail != Key::NONE.0 {
                let row = charge(details, Key(detail), ns);
                note_accesses(row, load!(vcpu, accesses), load!(vcpu, sizes));
            }
        }
        None => add!(vcpu, lost_no_book, 1),
    }
    forget_detail(vcpu);
    store!(vcpu, exit_ns, 0);
    store!(vcpu, books_seq, seq + 2);
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
