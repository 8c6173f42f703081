//! The detail of an exit: what it was for. The tracepoints between exit and entry only note its key. The
//! duration is recorded at the entry, for the exit as a whole: the tracepoint of a port read fires after
//! QEMU has answered, that of a write before.

use core::hint::cold_path;

use vmexit_common::{
    key::Key,
    stats::{SEQ_BUSY, VcpuCounters},
    vcpu::{NEW, NO_STATS, READY, UNTIMED, VcpuEntry},
};

use crate::{
    access::{add, load, store},
    exit,
    maps::count_loss,
    vcpu::{self, Context},
    vcpu_stats,
};

/// Notes `accesses` accesses to `key`. A string OUT fires the tracepoint once per element.
#[inline(always)]
pub fn note(ctx: Context, vcpu: *mut VcpuEntry, key: Key, accesses: u64) {
    if load!(vcpu, exit_ns) < exit::untimed_sentinel() {
        cold_path();
        count_unmatched(ctx, vcpu, key, accesses);
    } else if load!(vcpu, detail) == Key::NONE.0 && accesses == 1 {
        store!(vcpu, detail, key.0);
    } else {
        cold_path();
        note_again(vcpu, key, accesses);
    }
}

/// Notes a key that may be a mere step of the exit. A key noted before or after it describes the exit
/// better and takes precedence.
#[inline(always)]
pub fn note_step(ctx: Context, vcpu: *mut VcpuEntry, key: Key) {
    if load!(vcpu, exit_ns) < exit::untimed_sentinel() {
        cold_path();
        count_unmatched(ctx, vcpu, key, 1);
    } else if load!(vcpu, detail) == Key::NONE.0 {
        store!(vcpu, detail, key.0);
    } else {
        cold_path();
        count_extra_accesses(vcpu, key.0, 1);
    }
}

/// Notes the return of the exit in flight to userspace, and its reason. An exit can return twice, when a
/// signal arrives before the guest runs again; userspace has the vCPU from the first return on.
#[inline(always)]
pub fn note_userspace(ctx: Context, vcpu: *mut VcpuEntry, reason: Key) {
    let (start_ns, sentinel) = (load!(vcpu, exit_ns), exit::untimed_sentinel());
    if start_ns < sentinel {
        cold_path();
        count_unmatched(ctx, vcpu, reason, 1);
    } else if load!(vcpu, user_ns) == 0 {
        store!(vcpu, user, reason.0);
        if start_ns > sentinel {
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

/// Counts the end of a halt of this duration, nanoseconds. Either the thread slept, or KVM only polled.
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

/// Notes several accesses of one exit: a string instruction, or one more access. The exit is recorded on
/// the last key; the others are extra accesses.
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

/// Counts extra accesses as an update of their own. Not inlined, since they are rare.
#[inline(never)]
fn count_extra_accesses(vcpu: *mut VcpuEntry, key: u64, accesses: u64) {
    let Some(stats) = begin_update(vcpu) else { return };
    vcpu_stats::count_extra_accesses(stats, key, accesses);
    end_update(stats);
}

/// Counts an unmatched event: no exit is in flight. Either this host's KVM does not emit `kvm_exit`, or
/// tracing began within the exit. The event has no duration.
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

/// Whether the thread has a stats block. On a host whose KVM emits no exits, the comparison saves a call
/// for each event.
#[inline(always)]
fn has_stats(ctx: Context, vcpu: *mut VcpuEntry) -> bool {
    matches!(load!(vcpu, state), READY | NEW) || vcpu::has_stats(ctx, vcpu)
}

/// Begins an update of the thread's stats block that records no exit.
///
/// The code between this and [`end_update`] is deliberately not a closure. LLVM turns a closure into a
/// function that reads numbers through the stack, and the verifier of Linux 6.1 has been seen to treat a
/// comparison of such a number as decided, and to cut off the branch.
#[inline(always)]
fn begin_update(vcpu: *mut VcpuEntry) -> Option<*mut VcpuCounters> {
    let stats = vcpu::stats(vcpu)?;
    store!(stats, seq_begin, SEQ_BUSY);
    Some(stats)
}

/// Ends an update that records no exit.
#[inline(always)]
fn end_update(stats: *mut VcpuCounters) {
    add!(stats, non_exit_updates, 1);
    store!(stats, seq_begin, load!(stats, seq_end));
}
