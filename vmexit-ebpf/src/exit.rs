//! State machine of one exit, from `kvm_exit` to the `kvm_entry` that ends it. The exit gets a timestamp
//! at its start and is recorded at its end: on the rows of its reason, of its detail, and of its return
//! to userspace.

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

/// Selection of the exits to time. Every exit is counted in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TimingMode {
    /// All exits. These programs are for probes that count all the time; they ignore windows.
    All,
    /// A random sample of a fixed share; or the sampler's share, in its windows.
    Sampled,
    /// No exits. `kvm_entry` is not traced; an exit is recorded when the next one begins.
    Off,
}

/// Records or counts as lost the exit that is still in flight, if any. True if the next exit may begin:
/// the thread has an entry in the vCPU table whose exits are recorded.
///
/// An exit is still in flight if VM entries are not traced, or if its window was closed: it is recorded
/// now. Else its VM entry was missed, and it is lost.
#[inline(always)]
pub fn settle_previous(
    ctx: Context,
    vcpu: *mut VcpuEntry,
    timing: TimingMode,
    identity: impl Fn() -> VcpuIdentity,
) -> bool {
    match load!(vcpu, exit_ns) {
        0 => true,
        NOT_READY => vcpu::make_ready(ctx, vcpu, identity),
        _ if timing == TimingMode::Off => {
            if load!(vcpu, user_ns) == 0 {
                record(vcpu, ExitTime::TimingOff, None);
            } else {
                record_timing_off(vcpu);
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

/// Value of `exit_ns` of an untimed exit in flight: the start of its window, in place of its own. A larger
/// value is the timestamp of a timed exit of this window. A smaller one means that no exit is in flight,
/// or one from an earlier window.
#[inline(always)]
pub fn untimed_sentinel() -> u64 {
    maps::sampler().map_or(UNTIMED, |sampler| load!(sampler, window_start_ns))
}

/// Whether events are counted now: a window is open, or no windows are used.
#[inline(always)]
pub fn is_counting() -> bool {
    maps::sampler().is_none_or(|sampler| load!(sampler, window_start_ns) != NO_WINDOW)
}

/// Whether the exit in flight began in a window that has been closed since. Its entry may have been
/// missed.
#[inline(always)]
fn is_from_earlier_window(start_ns: u64) -> bool {
    maps::sampler()
        .is_some_and(|sampler| NOT_READY < start_ns && start_ns < load!(sampler, window_start_ns))
}

/// Begins an exit with this exit code of 32 bits; `None` if the code can't be read.
#[inline(always)]
pub fn begin(vcpu: *mut VcpuEntry, code: Option<u64>, timing: TimingMode) {
    let Some(code) = code else {
        count_loss!(unreadable);
        return;
    };
    let key = Key::plain(Kind::Reason, code);
    match timing {
        TimingMode::All => start(vcpu, key, || true),
        TimingMode::Sampled => start(vcpu, key, || is_sampled(load!(vcpu, exits))),
        TimingMode::Off => start(vcpu, key, || false),
    }
}

/// Puts an exit in flight.
#[inline(always)]
fn start(vcpu: *mut VcpuEntry, reason: Key, is_timed: impl Fn() -> bool) {
    store!(vcpu, reason, reason.0);
    add!(vcpu, exits, 1);
    store!(vcpu, exit_ns, if is_timed() { now() } else { untimed_sentinel() });
}

/// Counts the exit in flight as lost: it had no entry.
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

/// Whether sampling selects the exit with this number. The multiplication scatters the selected exits:
/// a guest that repeats the same loop would otherwise be timed at the same point of it each time.
#[inline(always)]
fn is_sampled(exits: u64) -> bool {
    let scattered = (exits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let share = maps::sampler().map_or(global!(TIMING_SHARE), |sampler| load!(sampler, share));
    scattered <= share
}

/// Observer of timed exits before they are recorded. `()` is the one that does nothing, and costs no
/// instruction.
pub trait ExitObserver: Copy {
    /// Called for the exit in flight with the timestamps of its start and end.
    fn on_end(self, vcpu: *mut VcpuEntry, start_ns: u64, now: u64);
}

impl ExitObserver for () {
    #[inline(always)]
    fn on_end(self, _: *mut VcpuEntry, _: u64, _: u64) {}
}

/// Ends the exit in flight: the guest is about to run again.
#[inline(always)]
pub fn end(vcpu: *mut VcpuEntry, timing: TimingMode, observer: impl ExitObserver) {
    let start_ns = load!(vcpu, exit_ns);
    let sentinel = if timing == TimingMode::All { UNTIMED } else { untimed_sentinel() };
    if start_ns > sentinel {
        let (user_start_ns, now) = (load!(vcpu, user_ns), now());
        observer.on_end(vcpu, start_ns, now);
        let time = ExitTime::Timed(ExitDuration::between(start_ns, now));
        if user_start_ns == 0 {
            record(vcpu, time, None);
        } else {
            record(vcpu, time, Some(vcpu_stats::elapsed(user_start_ns, now)));
        }
    } else if start_ns == sentinel {
        if load!(vcpu, user_ns) == 0 {
            record(vcpu, ExitTime::Untimed, None);
        } else {
            record_untimed(vcpu);
        }
    } else if timing != TimingMode::All && is_from_earlier_window(start_ns) {
        record_cut_off(vcpu);
    }
    // Else no exit is in flight: the first entry of a vCPU, an entry after a failed run, or a thread
    // whose exits are not recorded.
}

/// Records an exit whose window was closed while it was in flight: its duration is unknown.
#[inline(never)]
fn record_cut_off(vcpu: *mut VcpuEntry) {
    if load!(vcpu, user_ns) == 0 {
        record(vcpu, ExitTime::Untimed, None);
    } else {
        record(vcpu, ExitTime::Untimed, Some(0));
    }
}

/// Records an untimed exit that returned to userspace. Not inlined, since such an exit is slow anyway.
#[inline(never)]
fn record_untimed(vcpu: *mut VcpuEntry) {
    record(vcpu, ExitTime::Untimed, Some(0));
}

/// Records an exit that returned to userspace while timing is off. Not inlined likewise.
#[inline(never)]
fn record_timing_off(vcpu: *mut VcpuEntry) {
    record(vcpu, ExitTime::TimingOff, Some(0));
}

/// Duration of an exit, if known.
enum ExitTime {
    /// The duration.
    Timed(ExitDuration),
    /// Untimed by sampling.
    Untimed,
    /// Timing is off.
    TimingOff,
}

/// Records the exit in flight. `in_userspace` is the time that userspace had the vCPU, nanoseconds;
/// 0 if unknown. `None` if the exit did not return to userspace.
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

/// Counts the exit and its duration on one row.
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

/// Current time: `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}
