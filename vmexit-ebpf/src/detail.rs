//! What an exit is for. The tracepoints in between only note it; the time is booked at entry, for
//! the exit as a whole: a port read reports after QEMU has answered, a write before.

use core::hint::cold_path;

use vmexit_common::{
    key::Key,
    stats::{BUSY, VcpuCounters},
    vcpu::{NEW, NO_STATS, READY, UNTIMED, VcpuEntry},
};

use crate::{
    access::{add, load, store},
    exit,
    maps::count_loss,
    vcpu::{self, Context},
    vcpu_stats,
};

/// `accesses` accesses to `key`. A string OUT reports each element by itself.
#[inline(always)]
pub fn note(ctx: Context, vcpu: *mut VcpuEntry, key: Key, accesses: u64) {
    if load!(vcpu, exit_ns) < exit::untimed() {
        cold_path();
        count_unmatched(ctx, vcpu, key, accesses);
    } else if load!(vcpu, detail) == Key::NONE.0 && accesses == 1 {
        store!(vcpu, detail, key.0);
    } else {
        cold_path();
        note_again(vcpu, key, accesses);
    }
}

/// As [`note`], for what may be a step to something else: what comes before or after it says more about
/// the exit.
#[inline(always)]
pub fn note_step(ctx: Context, vcpu: *mut VcpuEntry, key: Key) {
    if load!(vcpu, exit_ns) < exit::untimed() {
        cold_path();
        count_unmatched(ctx, vcpu, key, 1);
    } else if load!(vcpu, detail) == Key::NONE.0 {
        store!(vcpu, detail, key.0);
    } else {
        cold_path();
        count_extra_accesses(vcpu, key.0, 1);
    }
}

/// The open exit goes to userspace, for this reason. It can do so twice, when a signal comes before the
/// guest runs again; from the first time on userspace has it.
#[inline(always)]
pub fn note_userspace(ctx: Context, vcpu: *mut VcpuEntry, reason: Key) {
    let (start_ns, untimed) = (load!(vcpu, exit_ns), exit::untimed());
    if start_ns < untimed {
        cold_path();
        count_unmatched(ctx, vcpu, reason, 1);
    } else if load!(vcpu, user_ns) == 0 {
        store!(vcpu, user, reason.0);
        if start_ns > untimed {
            store!(vcpu, user_ns, exit::now());
        } else {
            cold_path();
            store!(vcpu, user_ns, UNTIMED);
        }
    } else {
        cold_path();
        count_extra_accesses(vcpu, reason.0, 1);
    }
}

/// A halt has ended, after so many nanoseconds; the thread slept or KVM only polled.
#[inline(always)]
pub fn note_halt(ctx: Context, vcpu: *mut VcpuEntry, ns: u64, slept: bool) {
    if !exit::is_counting() || !has_stats(ctx, vcpu) {
        return;
    }
    let Some(stats) = begin_update(vcpu) else { return };
    if slept {
        add!(stats, halts.blocked, 1);
        add!(stats, halts.blocked_ns, ns);
    } else {
        add!(stats, halts.polled, 1);
        add!(stats, halts.polled_ns, ns);
    }
    end_update(stats);
}

/// A string instruction, or a further access of one exit. The exit will be booked on the last key.
#[inline(always)]
fn note_again(vcpu: *mut VcpuEntry, key: Key, accesses: u64) {
    let before = load!(vcpu, detail);
    store!(vcpu, detail, key.0);
    if before != Key::NONE.0 {
        count_extra_accesses(vcpu, before, 1);
    }
    if accesses > 1 {
        count_extra_accesses(vcpu, key.0, accesses - 1);
    }
}

#[inline(never)]
fn count_extra_accesses(vcpu: *mut VcpuEntry, key: u64, accesses: u64) {
    let Some(stats) = begin_update(vcpu) else { return };
    vcpu_stats::count_extra_accesses(stats, key, accesses);
    end_update(stats);
}

/// No exit is open: this host's KVM does not emit `kvm_exit`, or tracing began within the exit. There is no time to book, but the event did happen.
#[inline(always)]
fn count_unmatched(ctx: Context, vcpu: *mut VcpuEntry, key: Key, accesses: u64) {
    if !exit::is_counting() {
        return;
    }
    if !has_stats(ctx, vcpu) {
        if load!(vcpu, state) == NO_STATS {
            count_loss!(unmatched);
        }
        return;
    }
    let Some(stats) = begin_update(vcpu) else { return };
    vcpu_stats::count_unmatched(vcpu_stats::detail_row(stats, key));
    if accesses > 1 {
        vcpu_stats::count_extra_accesses(stats, key.0, accesses - 1);
    }
    end_update(stats);
}

/// The comparison saves a host without exits the call for each event.
#[inline(always)]
fn has_stats(ctx: Context, vcpu: *mut VcpuEntry) -> bool {
    matches!(load!(vcpu, state), READY | NEW) || vcpu::has_stats(ctx, vcpu)
}

/// The thread's book, to book something that is no exit. No closure between this and [`end_update`]: LLVM
/// makes a function of it, which gets at numbers through the stack, and the verifier of Linux 6.1 has
/// been seen to take a comparison of such a number for decided, and to cut off the branch.
#[inline(always)]
fn begin_update(vcpu: *mut VcpuEntry) -> Option<*mut VcpuCounters> {
    let stats = vcpu::stats(vcpu)?;
    store!(stats, seq_begin, BUSY);
    Some(stats)
}

#[inline(always)]
fn end_update(stats: *mut VcpuCounters) {
    add!(stats, non_exit_updates, 1);
    store!(stats, seq_begin, load!(stats, seq_end));
}
