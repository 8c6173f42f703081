//! Exits that took long, handed to userspace one by one as they end. Only the variants of `kvm_entry`
//! that are for this have any of it.

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

/// What `kvm_entry` tells.
pub trait EntryArguments: Copy {
    /// Where the guest goes on; `None` where this kernel does not say.
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

/// Apart from the programs, for few exits come here.
#[inline(never)]
fn submit(vcpu: *mut VcpuEntry, start_ns: u64, now: u64, rip: u64, flags: u16) {
    let Some(stats) = vcpu::stats(vcpu) else { return };
    let left = load!(vcpu, user_ns);
    let Some(mut slot) = SLOW.reserve::<SlowExitRecord>(0) else {
        count_loss!(slow);
        return;
    };
    slot.write(SlowExitRecord {
        end_ns: now,
        duration_ns: vcpu_stats::elapsed(start_ns, now),
        user_ns: if left == 0 { 0 } else { vcpu_stats::elapsed(left, now) },
        thread: load!(stats, thread),
        reason: load!(vcpu, reason),
        detail: load!(vcpu, detail),
        // That of an earlier exit stays.
        user: if left == 0 { 0 } else { load!(vcpu, user) },
        rip,
        vcpu_id: load!(stats, vcpu_id),
        isa: load!(stats, isa) as u16,
        flags,
    });
    slot.submit(0);
}
