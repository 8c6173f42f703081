//! One exit, from `kvm_exit` to the `kvm_entry` that on_end it: stamped, then booked whole on its
//! reason and on what it was for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use vmexit_common::{
    key::{Key, Kind},
    sampler::NO_WINDOW,
    stats::StatsRow,
    vcpu::{NOT_READY, UNTIMED, VcpuEntry},
};

use crate::{
    access::{add, load, store},
    maps::{self, count_loss, global},
    vcpu::{self, Context, VcpuIdentity},
    vcpu_stats::{self, ExitDuration},
};

/// Which exits are timed. Every exit is counted all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TimingMode {
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
pub fn can_begin(
    ctx: Context,
    vcpu: *mut VcpuEntry,
    timing: TimingMode,
    identity: impl Fn() -> VcpuIdentity,
) -> bool {
    match load!(vcpu, exit_ns) {
        0 => true,
        NOT_READY => vcpu::make_ready(ctx, vcpu, identity),
        _ if timing == TimingMode::None => {
            if load!(vcpu, user_ns) == 0 {
                record(vcpu, ExitTime::TimingOff, None);
            } else {
                record_counted(vcpu);
            }
            true
        }
        start_ns if timing != TimingMode::All && is_from_earlier_window(start_ns) => {
            record_cut_off(vcpu);
            true
        }
        _ => {
            count_lost(vcpu);
            true
        }
    }
}

/// What an exit that is not timed has as its beginning. All that are timed, and belong to the same window, began
/// later; what is less is no exit, or one of an earlier window.
#[inline(always)]
pub fn untimed() -> u64 {
    maps::sampler().map_or(UNTIMED, |sampler| load!(sampler, window_start_ns))
}

/// Whether anything is counted now.
#[inline(always)]
pub fn is_counting() -> bool {
    maps::sampler().is_none_or(|sampler| load!(sampler, window_start_ns) != NO_WINDOW)
}

/// Whether an exit is open that began in a window that was shut since: so its end may have been missed.
#[inline(always)]
fn is_from_earlier_window(start_ns: u64) -> bool {
    maps::sampler()
        .is_some_and(|sampler| NOT_READY < start_ns && start_ns < load!(sampler, window_start_ns))
}

/// The guest left with this exit code of 32 bits; `None` if it can't be read.
#[inline(always)]
pub fn begin(vcpu: *mut VcpuEntry, code: Option<u64>, timing: TimingMode) {
    let Some(code) = code else {
        count_loss!(unreadable);
        return;
    };
    let key = Key::plain(Kind::Reason, code);
    match timing {
        TimingMode::All => start(vcpu, key, || true),
        TimingMode::Some => start(vcpu, key, || is_sampled(load!(vcpu, exits))),
        TimingMode::None => start(vcpu, key, || false),
    }
}

#[inline(always)]
fn start(vcpu: *mut VcpuEntry, reason: Key, is_timed: impl Fn() -> bool) {
    store!(vcpu, reason, reason.0);
    add!(vcpu, exits, 1);
    store!(vcpu, exit_ns, if is_timed() { now() } else { untimed() });
}

/// The open exit never had an entry.
#[inline(always)]
fn count_lost(vcpu: *mut VcpuEntry) {
    let Some(stats) = vcpu::stats(vcpu) else { return };
    let exits = load!(vcpu, exits);
    store!(stats, seq_begin, exits);
    add!(stats, lost_no_entry, 1);
    store!(vcpu, detail, Key::NONE.0);
    store!(vcpu, user_ns, 0);
    store!(vcpu, exit_ns, 0);
    store!(stats, seq_end, exits);
}

/// Whether this exit is one in so many. Scattered by a multiplication, for a guest that does the same
/// round over and over would else be timed at the same point of it each time.
#[inline(always)]
fn is_sampled(exits: u64) -> bool {
    let scattered = (exits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let share = maps::sampler().map_or(global!(TIMING_SHARE), |sampler| load!(sampler, share));
    scattered <= share
}

/// Something that looks at timed exits before they are booked. Of `()`, which does not, no instruction is
/// left.
pub trait ExitObserver: Copy {
    /// The open exit, which began and on_end at these times.
    fn on_end(self, vcpu: *mut VcpuEntry, start_ns: u64, now: u64);
}

impl ExitObserver for () {
    #[inline(always)]
    fn on_end(self, _: *mut VcpuEntry, _: u64, _: u64) {}
}

/// The guest is about to run again.
#[inline(always)]
pub fn end(vcpu: *mut VcpuEntry, timing: TimingMode, observer: impl ExitObserver) {
    let start_ns = load!(vcpu, exit_ns);
    let untimed = if timing == TimingMode::All { UNTIMED } else { untimed() };
    if start_ns > untimed {
        let (left, now) = (load!(vcpu, user_ns), now());
        observer.on_end(vcpu, start_ns, now);
        let time = ExitTime::Timed(ExitDuration::between(start_ns, now));
        if left == 0 {
            record(vcpu, time, None);
        } else {
            record(vcpu, time, Some(vcpu_stats::elapsed(left, now)));
        }
    } else if start_ns == untimed {
        if load!(vcpu, user_ns) == 0 {
            record(vcpu, ExitTime::Untimed, None);
        } else {
            record_untimed(vcpu);
        }
    } else if timing != TimingMode::All && is_from_earlier_window(start_ns) {
        record_cut_off(vcpu);
    }
    // Else nothing is open: the first entry of a vCPU, one after a run that failed, or a thread that is
    // not booked.
}

/// An exit that was open when its window was shut: it happened, and that is all.
#[inline(never)]
fn record_cut_off(vcpu: *mut VcpuEntry) {
    if load!(vcpu, user_ns) == 0 {
        record(vcpu, ExitTime::Untimed, None);
    } else {
        record(vcpu, ExitTime::Untimed, Some(0));
    }
}

/// An exit that userspace has answered, and that was left untimed. Apart from the programs: it took its time.
#[inline(never)]
fn record_untimed(vcpu: *mut VcpuEntry) {
    record(vcpu, ExitTime::Untimed, Some(0));
}

/// The same where none is timed.
#[inline(never)]
fn record_counted(vcpu: *mut VcpuEntry) {
    record(vcpu, ExitTime::TimingOff, Some(0));
}

/// What is known of an exit's time.
enum ExitTime {
    /// All.
    Timed(ExitDuration),
    /// Nothing, though that of others is.
    Untimed,
    /// Nothing, as of all.
    TimingOff,
}

/// Books the open exit; with the nanoseconds that userspace had the vCPU, if it went there.
#[inline(always)]
fn record(vcpu: *mut VcpuEntry, time: ExitTime, in_userspace: Option<u64>) {
    let Some(stats) = vcpu::stats(vcpu) else { return };
    store!(stats, seq_begin, load!(vcpu, exits));
    count(vcpu_stats::reason_row(stats, Key(load!(vcpu, reason))), &time, in_userspace);
    let detail = Key(load!(vcpu, detail));
    if detail != Key::NONE {
        count(vcpu_stats::detail_row(stats, detail), &time, in_userspace);
        store!(vcpu, detail, Key::NONE.0);
    }
    if in_userspace.is_some() {
        count(vcpu_stats::detail_row(stats, Key(load!(vcpu, user))), &time, in_userspace);
        store!(vcpu, user_ns, 0);
    }
    store!(vcpu, exit_ns, 0);
    store!(stats, seq_end, load!(vcpu, exits));
}

#[inline(always)]
fn count(row: *mut StatsRow, time: &ExitTime, in_userspace: Option<u64>) {
    vcpu_stats::count_exit(row);
    match time {
        ExitTime::Timed(duration) => vcpu_stats::time_exit(row, duration),
        ExitTime::Untimed => vcpu_stats::leave_untimed(row),
        ExitTime::TimingOff => {}
    }
    if let (ExitTime::Timed(_), Some(ns)) = (time, in_userspace) {
        vcpu_stats::time_userspace(row, ns);
    }
}

/// Nanoseconds, `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}
