//! One exit, from `kvm_exit` to the `kvm_entry` that ends it: stamped, then booked whole on its
//! reason and on what it was for.

use aya_ebpf::{EbpfContext, helpers::bpf_ktime_get_ns};
use vmexit_common::{
    book::Row,
    key::Key,
    vcpu::{BLOCKED, UNTIMED, Vcpu},
};

use crate::{
    access::{add, load, store},
    book::{self, Duration},
    maps::{count_loss, global},
    vcpu::{self, Identity},
};

/// Which exits are timed. Every exit is counted all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Every one.
    All,
    /// One in so many, by chance.
    Some,
    /// None; `kvm_entry` is not traced, and an exit is booked when the next begins.
    None,
}

/// Whether an exit can begin: none is open, and the thread's exits are booked. One that was open is
/// booked now where entries are not traced; else it never had one, and is counted as lost.
#[inline(always)]
pub fn is_closed<C: EbpfContext>(
    ctx: &C,
    vcpu: *mut Vcpu,
    timing: Timing,
    identity: impl Fn() -> Identity,
) -> bool {
    match load!(vcpu, exit_ns) {
        0 => true,
        BLOCKED => vcpu::unblock(ctx, vcpu, identity),
        _ if timing == Timing::None => {
            close(vcpu, |_| ());
            true
        }
        _ => {
            lose(vcpu);
            true
        }
    }
}

/// The guest left with this exit code; `None` if it can't be read.
#[inline(always)]
pub fn begin(vcpu: *mut Vcpu, code: Option<u32>, timing: Timing) {
    let Some(code) = code else {
        count_loss!(unreadable);
        return;
    };
    let key = Key::reason(code);
    match timing {
        Timing::All => open(vcpu, key, || true),
        Timing::Some => open(vcpu, key, || is_chosen(load!(vcpu, exits))),
        Timing::None => open(vcpu, key, || false),
    }
}

#[inline(always)]
fn open(vcpu: *mut Vcpu, reason: Key, is_timed: impl Fn() -> bool) {
    store!(vcpu, reason, reason.0);
    add!(vcpu, exits, 1);
    store!(vcpu, exit_ns, if is_timed() { now() } else { UNTIMED });
}

/// The open exit never had an entry.
#[inline(always)]
fn lose(vcpu: *mut Vcpu) {
    let Some(book) = vcpu::book(vcpu) else { return };
    let exits = load!(vcpu, exits);
    store!(book, begun, exits);
    add!(book, lost_no_entry, 1);
    store!(vcpu, detail, Key::NONE.0);
    store!(vcpu, exit_ns, 0);
    store!(book, done, exits);
}

/// Whether this exit is one in so many. Scattered by a multiplication, for a guest that does the same
/// round over and over would else be timed at the same point of it each time.
#[inline(always)]
fn is_chosen(exits: u64) -> bool {
    let scattered = (exits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    scattered <= global!(TIMING_SHARE)
}

/// The guest is about to run again.
#[inline(always)]
pub fn end(vcpu: *mut Vcpu) {
    let began = load!(vcpu, exit_ns);
    if began > UNTIMED {
        let duration = Duration::between(began, now());
        close(vcpu, |row| book::time_exit(row, &duration));
    } else if began == UNTIMED {
        close(vcpu, book::leave_untimed);
    }
    // Else nothing is open: the first entry of a vCPU, one after a run that failed, or a thread that is
    // not booked.
}

/// Books the open exit.
#[inline(always)]
fn close(vcpu: *mut Vcpu, time: impl Fn(*mut Row)) {
    let Some(book) = vcpu::book(vcpu) else { return };
    store!(book, begun, load!(vcpu, exits));
    let reason = book::reason_row(book, Key(load!(vcpu, reason)));
    book::count_exit(reason);
    time(reason);
    let detail = Key(load!(vcpu, detail));
    if detail != Key::NONE {
        let row = book::detail_row(book, detail);
        book::count_exit(row);
        time(row);
        store!(vcpu, detail, Key::NONE.0);
    }
    store!(vcpu, exit_ns, 0);
    store!(book, done, load!(vcpu, exits));
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}
