//! What an exit is for. The tracepoints in between only note it; the time is booked at entry, for
//! the exit as a whole: a port read reports after QEMU has answered, a write before.

use vmexit_common::{key::Key, vcpu::Vcpu};

use crate::{
    access::{add, load, store},
    book,
    maps::BOOKS,
};

/// `accesses` accesses of `size` bytes to `key`. A string OUT reports each element by itself.
#[inline(always)]
pub fn note(vcpu: *mut Vcpu, key: Key, accesses: u32, size: u32) {
    if load!(vcpu, exit_ns) == 0 {
        count_stray(vcpu, key, accesses, size);
        return;
    }
    let same = load!(vcpu, detail) == key.0;
    let (seen, sizes) = if same { (load!(vcpu, accesses), load!(vcpu, sizes)) } else { (0, 0) };
    store!(vcpu, detail, key.0);
    store!(vcpu, accesses, seen.wrapping_add(accesses));
    store!(vcpu, sizes, sizes | size);
}

/// No exit is open: this host's KVM does not emit `kvm_exit`, or tracing began within the exit.
/// There is no time to book, but the event did happen.
#[inline(always)]
fn count_stray(vcpu: *mut Vcpu, key: Key, accesses: u32, size: u32) {
    let seq = load!(vcpu, books_seq);
    store!(vcpu, books_seq, seq + 1);
    match BOOKS.get_ptr_mut(load!(vcpu, book)) {
        Some(book) => {
            // SAFETY: within the book that the look-up returned.
            let details = unsafe { &raw mut (*book).details };
            book::count_stray(details, key, accesses, size);
        }
        None => add!(vcpu, lost_stray, 1),
    }
    store!(vcpu, books_seq, seq + 2);
}
