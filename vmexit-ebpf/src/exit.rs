//! One exit, from `kvm_exit` to the `kvm_entry` that ends it: stamped, then booked whole on its
//! reason and on what it was for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use vmexit_common::{
    book::Row,
    key::{Key, Kind},
    sampler::SHUT,
    vcpu::{BLOCKED, UNTIMED, Vcpu},
};

use crate::{
    access::{add, load, store},
    book::{self, Duration},
    maps::{self, count_loss, global},
    vcpu::{self, Context, Identity},
};

/// Which exits are timed. Every exit is counted all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Every one; these programs are for probes that count all the time, and don't ask for windows.
    All,
    /// One in so many, by chance; or as the sampler says, in its windows.
    Some,
    /// None; `kvm_entry` is not traced, and an exit is booked when the next begins.
    None,
}

/// Whether an exit can begin: none is open, and the thread's exits are booked. One that was open is
/// booked now where entries are not traced; else it never had one, and is counted as lost.
#[inline(always)]
pub fn is_closed(
    ctx: Context,
    vcpu: *mut Vcpu,
    timing: Timing,
    identity: impl Fn() -> Identity,
) -> bool {
    match load!(vcpu, exit_ns) {
        0 => true,
        BLOCKED => vcpu::unblock(ctx, vcpu, identity),
        _ if timing == Timing::None => {
            if load!(vcpu, user_ns) == 0 {
                close(vcpu, Took::Nothing, None);
            } else {
                close_counted(vcpu);
            }
            true
        }
        began if timing != Timing::All && is_of_earlier_window(began) => {
            close_cut(vcpu);
            true
        }
        _ => {
            lose(vcpu);
            true
        }
    }
}

/// What an exit that is not timed has as its beginning. All that are timed, and belong to the same window, began
/// later; what is less is no exit, or one of an earlier window.
#[inline(always)]
pub fn untimed() -> u64 {
    maps::sampler().map_or(UNTIMED, |sampler| load!(sampler, since_ns))
}

/// Whether anything is counted now.
#[inline(always)]
pub fn is_watched() -> bool {
    maps::sampler().is_none_or(|sampler| load!(sampler, since_ns) != SHUT)
}

/// Whether an exit is open that began in a window that was shut since: so its end may have been missed.
#[inline(always)]
fn is_of_earlier_window(began: u64) -> bool {
    maps::sampler().is_some_and(|sampler| BLOCKED < began && began < load!(sampler, since_ns))
}

/// The guest left with this exit code of 32 bits; `None` if it can't be read.
#[inline(always)]
pub fn begin(vcpu: *mut Vcpu, code: Option<u64>, timing: Timing) {
    let Some(code) = code else {
        count_loss!(unreadable);
        return;
    };
    let key = Key::plain(Kind::Reason, code);
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
    store!(vcpu, exit_ns, if is_timed() { now() } else { untimed() });
}

/// The open exit never had an entry.
#[inline(always)]
fn lose(vcpu: *mut Vcpu) {
    let Some(book) = vcpu::book(vcpu) else { return };
    let exits = load!(vcpu, exits);
    store!(book, begun, exits);
    add!(book, lost_no_entry, 1);
    store!(vcpu, detail, Key::NONE.0);
    store!(vcpu, user_ns, 0);
    store!(vcpu, exit_ns, 0);
    store!(book, done, exits);
}

/// Whether this exit is one in so many. Scattered by a multiplication, for a guest that does the same
/// round over and over would else be timed at the same point of it each time.
#[inline(always)]
fn is_chosen(exits: u64) -> bool {
    let scattered = (exits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let share = maps::sampler().map_or(global!(TIMING_SHARE), |sampler| load!(sampler, share));
    scattered <= share
}

/// Something that looks at timed exits before they are booked. Of `()`, which does not, no instruction is
/// left.
pub trait Watch: Copy {
    /// The open exit, which began and ends at these times.
    fn ends(self, vcpu: *mut Vcpu, began: u64, now: u64);
}

impl Watch for () {
    #[inline(always)]
    fn ends(self, _: *mut Vcpu, _: u64, _: u64) {}
}

/// The guest is about to run again.
#[inline(always)]
pub fn end(vcpu: *mut Vcpu, timing: Timing, watch: impl Watch) {
    let began = load!(vcpu, exit_ns);
    let untimed = if timing == Timing::All { UNTIMED } else { untimed() };
    if began > untimed {
        let (left, now) = (load!(vcpu, user_ns), now());
        watch.ends(vcpu, began, now);
        let took = Took::Time(Duration::between(began, now));
        if left == 0 {
            close(vcpu, took, None);
        } else {
            close(vcpu, took, Some(book::elapsed(left, now)));
        }
    } else if began == untimed {
        if load!(vcpu, user_ns) == 0 {
            close(vcpu, Took::Unknown, None);
        } else {
            close_untimed(vcpu);
        }
    } else if timing != Timing::All && is_of_earlier_window(began) {
        close_cut(vcpu);
    }
    // Else nothing is open: the first entry of a vCPU, one after a run that failed, or a thread that is
    // not booked.
}

/// An exit that was open when its window was shut: it happened, and that is all.
#[inline(never)]
fn close_cut(vcpu: *mut Vcpu) {
    if load!(vcpu, user_ns) == 0 {
        close(vcpu, Took::Unknown, None);
    } else {
        close(vcpu, Took::Unknown, Some(0));
    }
}

/// An exit that userspace has answered, and that was left untimed. Apart from the programs: it took its time.
#[inline(never)]
fn close_untimed(vcpu: *mut Vcpu) {
    close(vcpu, Took::Unknown, Some(0));
}

/// The same where none is timed.
#[inline(never)]
fn close_counted(vcpu: *mut Vcpu) {
    close(vcpu, Took::Nothing, Some(0));
}

/// What is known of an exit's time.
enum Took {
    /// All.
    Time(Duration),
    /// Nothing, though that of others is.
    Unknown,
    /// Nothing, as of all.
    Nothing,
}

/// Books the open exit; with the nanoseconds that userspace had the vCPU, if it went there.
#[inline(always)]
fn close(vcpu: *mut Vcpu, took: Took, in_userspace: Option<u64>) {
    let Some(book) = vcpu::book(vcpu) else { return };
    store!(book, begun, load!(vcpu, exits));
    count(book::reason_row(book, Key(load!(vcpu, reason))), &took, in_userspace);
    let detail = Key(load!(vcpu, detail));
    if detail != Key::NONE {
        count(book::detail_row(book, detail), &took, in_userspace);
        store!(vcpu, detail, Key::NONE.0);
    }
    if in_userspace.is_some() {
        count(book::detail_row(book, Key(load!(vcpu, user))), &took, in_userspace);
        store!(vcpu, user_ns, 0);
    }
    store!(vcpu, exit_ns, 0);
    store!(book, done, load!(vcpu, exits));
}

#[inline(always)]
fn count(row: *mut Row, took: &Took, in_userspace: Option<u64>) {
    book::count_exit(row);
    match took {
        Took::Time(duration) => book::time_exit(row, duration),
        Took::Unknown => book::leave_untimed(row),
        Took::Nothing => {}
    }
    if let (Took::Time(_), Some(ns)) = (took, in_userspace) {
        book::time_userspace(row, ns);
    }
}

/// Nanoseconds, `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}
