//! Exits that took long, handed to userspace one by one as they end. Only the variants of `kvm_entry`
//! that are for this have any of it.

use vmexit_common::{
    slow::{RIP_KNOWN, SlowExit},
    vcpu::Vcpu,
};

use crate::{
    access::load,
    book,
    exit::Watch,
    maps::{SLOW, count_loss, global},
    vcpu,
};

/// What `kvm_entry` tells.
pub trait Entry: Copy {
    /// Where the guest goes on; `None` where this kernel does not say.
    fn rip(self) -> Option<u64>;
}

impl<E: Entry> Watch for E {
    #[inline(always)]
    fn ends(self, vcpu: *mut Vcpu, began: u64, now: u64) {
        if book::elapsed(began, now) < global!(SLOW_LIMITS.ns) {
            return;
        }
        let reason = load!(vcpu, reason);
        if reason == global!(SLOW_LIMITS.ignored[0]) || reason == global!(SLOW_LIMITS.ignored[1]) {
            return;
        }
        match self.rip() {
            Some(rip) => hand_over(vcpu, began, now, rip, RIP_KNOWN),
            None => hand_over(vcpu, began, now, 0, 0),
        }
    }
}

/// Apart from the programs, for few exits come here.
#[inline(never)]
fn hand_over(vcpu: *mut Vcpu, began: u64, now: u64, rip: u64, flags: u16) {
    let Some(book) = vcpu::book(vcpu) else { return };
    let left = load!(vcpu, user_ns);
    let Some(mut slot) = SLOW.reserve::<SlowExit>(0) else {
        count_loss!(slow);
        return;
    };
    slot.write(SlowExit {
        end_ns: now,
        duration_ns: book::elapsed(began, now),
        user_ns: if left == 0 { 0 } else { book::elapsed(left, now) },
        thread: load!(book, thread),
        reason: load!(vcpu, reason),
        detail: load!(vcpu, detail),
        // That of an earlier exit stays.
        user: if left == 0 { 0 } else { load!(vcpu, user) },
        rip,
        vcpu_id: load!(book, vcpu_id),
        isa: load!(book, isa) as u16,
        flags,
    });
    slot.submit(0);
}
