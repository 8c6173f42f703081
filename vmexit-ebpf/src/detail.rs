//! What an exit is for. The tracepoints in between only note it; the time is booked at entry, for
//! the exit as a whole: a port read reports after QEMU has answered, a write before.

use aya_ebpf::EbpfContext;
use vmexit_common::{
    book::{BUSY, Book},
    key::Key,
    vcpu::{BLOCKED, NEW, NO_BOOK, READY, Vcpu},
};

use crate::{
    access::{add, load, store},
    book,
    maps::{self, BOOKS},
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
    book_apart(vcpu, |book| {
        if before != Key::NONE.0 {
            book::count_more(book::detail_line(book, Key(before)), 1);
        }
        if accesses > 1 {
            book::count_more(book::detail_line(book, key), accesses - 1);
        }
    });
}

/// No exit is open: this host's KVM does not emit `kvm_exit`, exits are not timed, or tracing began
/// within the exit. There is no time to book, but the event did happen.
#[inline(always)]
fn count_stray<C: EbpfContext>(ctx: &C, vcpu: *mut Vcpu, key: Key, accesses: u64) {
    if !matches!(load!(vcpu, state), READY | NEW) && !vcpu::has_book(ctx, vcpu) {
        if load!(vcpu, state) == NO_BOOK
            && let Some(loss) = maps::loss()
        {
            add!(loss, stray, 1);
        }
        return;
    }
    book_apart(vcpu, |book| {
        let line = book::detail_line(book, key);
        book::count_stray(line);
        if accesses > 1 {
            book::count_more(line, accesses - 1);
        }
    });
}

/// Books something that is no exit, marked as such while it is under way.
#[inline(always)]
fn book_apart(vcpu: *mut Vcpu, write: impl Fn(*mut Book)) {
    let Some(book) = BOOKS.get_ptr_mut(load!(vcpu, book)) else { return };
    store!(book, begun, BUSY);
    write(book);
    add!(book, apart, 1);
    store!(book, begun, load!(book, done));
}
