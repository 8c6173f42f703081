//! One exit, from `kvm_exit` to the `kvm_entry` that ends it: stamped, then booked whole on its
//! reason and on what it was for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use vmexit_common::{
    key::Key,
    vcpu::{IGNORED, NO_BOOK, Vcpu},
};

use crate::{
    access::{add, load, store},
    book::{Charge, charge},
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
    let mut index = load!(vcpu, book);
    if index == IGNORED {
        return;
    }
    let began = load!(vcpu, exit_ns);
    if began == 0 {
        // Nothing was open: the first entry of a vCPU, or one after a run that failed.
        forget_detail(vcpu);
        return;
    }
    // SAFETY: a helper without preconditions.
    let ns = unsafe { bpf_ktime_get_ns() }.saturating_sub(began);

    let seq = load!(vcpu, books_seq);
    store!(vcpu, books_seq, seq + 1);
    if index == NO_BOOK {
        // Userspace may have returned one since.
        index = vcpu::free_book();
        store!(vcpu, book, index);
    }
    match BOOKS.get_ptr_mut(index) {
        Some(book) => {
            let reason = Key::reason(load!(vcpu, exit_code));
            // SAFETY: within the book that the look-up returned.
            let (reasons, details) =
                unsafe { (&raw mut (*book).reasons, &raw mut (*book).details) };
            charge(reasons, &Charge { key: reason, ns, accesses: 1, sizes: 0 });
            let detail = load!(vcpu, detail);
            if detail != Key::NONE.0 {
                let (accesses, sizes) = (load!(vcpu, accesses), load!(vcpu, sizes));
                charge(details, &Charge { key: Key(detail), ns, accesses, sizes });
            }
        }
        None => add!(vcpu, lost_no_book, 1),
    }
    forget_detail(vcpu);
    store!(vcpu, exit_ns, 0);
    store!(vcpu, books_seq, seq + 2);
}

#[inline(always)]
fn forget_detail(vcpu: *mut Vcpu) {
    store!(vcpu, detail, Key::NONE.0);
}
