//! Slow exits: a record of each is submitted to userspace as it ends. Only the `_slow` variants of the
//! `kvm_entry` programs contain this code.

use vmexit_common::{
    slow::{RIP_KNOWN, SlowExitRecord},
    vcpu::VcpuEntry,
};

use crate::{
    access::load,
    exit::ExitObserver,
    maps::{SLOW, count_loss, global},
    vcpu, vcpu_stats,
};

/// Arguments of `kvm_entry`.
pub trait EntryArguments: Copy {
    /// Guest's instruction pointer; `None` if it is unknown here.
    fn rip(self) -> Option<u64>;
}

impl<E: EntryArguments> ExitObserver for E {
    #[inline(always)]
    fn on_end(self, vcpu: *mut VcpuEntry, start_ns: u64, now: u64) {
        if vcpu_stats::elapsed(start_ns, now) < global!(SLOW_LIMITS.ns) {
            return;
        }
        let reason = load!(vcpu, reason);
        if reason == global!(SLOW_LIMITS.ignored[0]) || reason == global!(SLOW_LIMITS.ignored[1]) {
            return;
        }
        match self.rip() {
            Some(rip) => submit(vcpu, start_ns, now, rip, RIP_KNOWN),
            None => submit(vcpu, start_ns, now, 0, 0),
        }
    }
}

/// Submits the record of a slow exit to the ring buffer. Not inlined, since slow exits are rare.
#[inline(never)]
fn submit(vcpu: *mut VcpuEntry, start_ns: u64, now: u64, rip: u64, flags: u16) {
    let Some(stats) = vcpu::stats(vcpu) else { return };
    let user_start_ns = load!(vcpu, user_ns);
    let Some(mut slot) = SLOW.reserve::<SlowExitRecord>(0) else {
        count_loss!(slow);
        return;
    };
    slot.write(SlowExitRecord {
        end_ns: now,
        duration_ns: vcpu_stats::elapsed(start_ns, now),
        user_ns: if user_start_ns == 0 { 0 } else { vcpu_stats::elapsed(user_start_ns, now) },
        thread: load!(stats, thread),
        reason: load!(vcpu, reason),
        detail: load!(vcpu, detail),
        // Without a return to userspace, the entry still has the reason of an earlier exit.
        user: if user_start_ns == 0 { 0 } else { load!(vcpu, user) },
        rip,
        vcpu_id: load!(stats, vcpu_id),
        isa: load!(stats, isa) as u16,
        flags,
    });
    slot.submit(0);
}
