//! What an exit is for. The tracepoints in between only note it; the time is booked at entry, for
//! the exit as a whole: a port read reports after QEMU has answered, a write before.

use core::hint::cold_path;

use vmexit_common::{
    book::{BUSY, Counts},
    key::Key,
    vcpu::{NEW, NO_BOOK, READY, UNTIMED, Vcpu},
};

use crate::{
    access::{add, load, store},
    book, exit,
    maps::count_loss,
    vcpu::{self, Context},
};

/// `accesses` accesses to `key`. A string OUT reports each element by itself.
#[inline(always)]
pub fn note(ctx: Context, vcpu: *mut Vcpu, key: Key, accesses: u64) {
    if load!(vcpu, exit_ns) < exit::untimed() {
        cold_path();
        count_stray(ctx, vcpu, key, accesses);
    } else if load!(vcpu, detail) == Key::NONE.0 && accesses == 1 {
        store!(vcpu, detail, key.0);
    } else {
        cold_path();
        note_more(vcpu, key, accesses);
    }
}

/// As [`note`], for what may be a step to something else: what comes before or after it says more about
/// the exit.
#[inline(always)]
pub fn note_step(ctx: Context, vcpu: *mut Vcpu, key: Key) {
    if load!(vcpu, exit_ns) < exit::untimed() {
        cold_path();
        count_stray(ctx, vcpu, key, 1);
    } else if load!(vcpu, detail) == Key::NONE.0 {
        store!(vcpu, detail, key.0);
    } else {
        cold_path();
        count_more(vcpu, key.0, 1);
    }
}

/// The open exit goes to userspace, for this reason. It can do so twice, when a signal comes before the
/// guest runs again; from the first time on userspace has it.
#[inline(always)]
pub fn note_userspace(ctx: Context, vcpu: *mut Vcpu, reason: Key) {
    let (began, untimed) = (load!(vcpu, exit_ns), exit::untimed());
    if began < untimed {
        cold_path();
        count_stray(ctx, vcpu, reason, 1);
    } else if load!(vcpu, user_ns) == 0 {
        store!(vcpu, user, reason.0);
        if began > untimed {
            store!(vcpu, user_ns, exit::now());
        } else {
            cold_path();
            store!(vcpu, user_ns, UNTIMED);
        }
    } else {
        cold_path();
        count_more(vcpu, reason.0, 1);
    }
}

/// A halt has ended, after so many nanoseconds; the thread slept or KVM only polled.
#[inline(always)]
pub fn note_halt(ctx: Context, vcpu: *mut Vcpu, ns: u64, slept: bool) {
    if !exit::is_watched() || !has_book(ctx, vcpu) {
        return;
    }
    let Some(book) = begin_apart(vcpu) else { return };
    if slept {
        add!(book, halts.blocked, 1);
        add!(book, halts.blocked_ns, ns);
    } else {
        add!(book, halts.polled, 1);
        add!(book, halts.polled_ns, ns);
    }
    end_apart(book);
}

/// A string instruction, or a further access of one exit. The exit will be booked on the last key.
#[inline(always)]
fn note_more(vcpu: *mut Vcpu, key: Key, accesses: u64) {
    let before = load!(vcpu, detail);
    store!(vcpu, detail, key.0);
    if before != Key::NONE.0 {
        count_more(vcpu, before, 1);
    }
    if accesses > 1 {
        count_more(vcpu, key.0, accesses - 1);
    }
}

#[inline(never)]
fn count_more(vcpu: *mut Vcpu, key: u64, accesses: u64) {
    let Some(book) = begin_apart(vcpu) else { return };
    book::count_more(book, key, accesses);
    end_apart(book);
}

/// No exit is open: this host's KVM does not emit `kvm_exit`, or tracing began within the exit. There is no time to book, but the event did happen.
#[inline(always)]
fn count_stray(ctx: Context, vcpu: *mut Vcpu, key: Key, accesses: u64) {
    if !exit::is_watched() {
        return;
    }
    if !has_book(ctx, vcpu) {
        if load!(vcpu, state) == NO_BOOK {
            count_loss!(stray);
        }
        return;
    }
    let Some(book) = begin_apart(vcpu) else { return };
    book::count_stray(book::detail_row(book, key));
    if accesses > 1 {
        book::count_more(book, key.0, accesses - 1);
    }
    end_apart(book);
}

/// The comparison saves a host without exits the call for each event.
#[inline(always)]
fn has_book(ctx: Context, vcpu: *mut Vcpu) -> bool {
    matches!(load!(vcpu, state), READY | NEW) || vcpu::has_book(ctx, vcpu)
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
