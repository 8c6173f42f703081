//! What an exit is for. The tracepoints in between only note it; the time is booked at entry, for
//! the exit as a whole: a port read reports after QEMU has answered, a write before.

use aya_ebpf::EbpfContext;
use vmexit_common::{
    book::{BUSY, Counts},
    key::Key,
    vcpu::{BLOCKED, NEW, NO_BOOK, READY, Vcpu},
};

use crate::{
    access::{add, load, store},
    book,
    maps::count_loss,
    vcpu,
};

/// `accesses` accesses to `key`. A string OUT reports each element by itself.
#[inline(always)]
pub fn note<C: EbpfContext>(ctx: &C, vcpu: *mut Vcpu, key: Key, accesses: u64) {
    if load!(vcpu, exit_ns) <= BLOCKED {
        count_stray(ctx, vcpu, key, accesses);
    } else if load!(vcpu, detail) == Key::NONE.0 && accesses == 1 {
        store!(vcpu, detail, key.0);
    } else {
        note_more(vcpu, key, accesses);
    }
}

/// A string instruction, or a further access of one exit. The exit will be booked on the last key.
#[inline(always)]
fn note_more(vcpu: *mut Vcpu, key: Key, accesses: u64) {
    let before = load!(vcpu, detail);
    store!(vcpu, detail, key.0);
    let Some(book) = begin_apart(vcpu) else { return };
    if before != Key::NONE.0 {
        book::count_more(book::detail_row(book, Key(before)), 1);
    }
    if accesses > 1 {
        book::count_more(book::detail_row(book, key), accesses - 1);
    }
    end_apart(book);
}

/// No exit is open: this host's KVM does not emit `kvm_exit`, or tracing began within the exit. There is no time to book, but the event did happen.
#[inline(always)]
fn count_stray<C: EbpfContext>(ctx: &C, vcpu: *mut Vcpu, key: Key, accesses: u64) {
    // The comparison saves a host without exits the call for each event.
    if !matches!(load!(vcpu, state), READY | NEW) && !vcpu::has_book(ctx, vcpu) {
        if load!(vcpu, state) == NO_BOOK {
            count_loss!(stray);
        }
        return;
    }
    let Some(book) = begin_apart(vcpu) else { return };
    let row = book::detail_row(book, key);
    book::count_stray(row);
    if accesses > 1 {
        book::count_more(row, accesses - 1);
    }
    end_apart(book);
}

/// The thread's book, to book something that is no exit. No closure between this and [`end_apart`]: LLVM
/// makes a function of it, which gets at numbers through the stack, and the verifier of Linux 6.1 has
/// been seen to take a comparison of such a number for decided, and to cut off the branch.
#[inline(always)]
fn begin_apart(vcpu: *mut Vcpu) -> Option<*mut Counts> {
    let book = vcpu::book(vcpu)?;
    store!(book, begun, BUSY);
    Some(book)
}

#[inline(always)]
fn end_apart(book: *mut Counts) {
    add!(book, apart, 1);
    store!(book, begun, load!(book, done));
}
