//! What each tracepoint of KVM's between exit and entry tells, whichever way it is read: the key of what
//! the exit is for.

use vmexit_common::key::{Key, Kind, userspace};

use crate::{
    detail,
    vcpu::{self, Context},
};

/// What a program was called with.
pub trait Arguments {
    /// What the program was called with.
    fn context(&self) -> Context;

    /// One of the fields that the agent's table of tracepoints lists, by its place there; of the type that
    /// it has there. `None` if it can't be read.
    fn get<T: Copy + Into<u64>>(&self, n: usize) -> Option<u64>;
}

/// `type` of a `kvm_mmio` that announces a read which userspace is to answer; another follows with the
/// answer (arch/x86/kvm/trace.h).
const READ_UNSATISFIED: u64 = 0;
/// `type` of a write.
const WRITE: u64 = 2;

/// What of a page fault's code says what the access was, for either vendor: Intel's exit qualification has
/// access and permissions there, AMD's error code what the CPU's own page faults have.
const FAULT_BITS: u64 = 0x3f;

const EINTR: u32 = 4;
/// The sign of an int that was made an u64, whether or not that extends it.
const NEGATIVE: u64 = u64::MAX << 31;

#[inline(always)]
pub fn pio<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let (write, port, size) = (args.get::<u32>(0)?, args.get::<u32>(1)?, args.get::<u32>(2)?);
    detail::note(args.context(), vcpu, Key::pio(port, write, size), args.get::<u32>(3)?);
    Some(())
}

#[inline(always)]
pub fn mmio<A: Arguments>(args: &A) -> Option<()> {
    let (kind, size, address) = (args.get::<u32>(0)?, args.get::<u32>(1)?, args.get::<u64>(2)?);
    if kind == READ_UNSATISFIED {
        return None;
    }
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note(args.context(), vcpu, Key::mmio(address, u64::from(kind == WRITE), size), 1);
    Some(())
}

#[inline(always)]
pub fn fast_mmio<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let key = Key::mmio(args.get::<u64>(0)?, 0, 0).value();
    detail::note(args.context(), vcpu, Key::plain(Kind::FastMmio, key), 1);
    Some(())
}

#[inline(always)]
pub fn msr<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let (write, number) = (args.get::<u32>(0)?, args.get::<u32>(1)?);
    detail::note(args.context(), vcpu, Key::msr(number, write), 1);
    Some(())
}

/// KVM asks itself too, within exits for something else.
#[inline(always)]
pub fn cpuid<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note_step(args.context(), vcpu, Key::plain(Kind::Cpuid, args.get::<u32>(0)?));
    Some(())
}

#[inline(always)]
pub fn hypercall<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    // Of 64 bits, of which all calls that there are take the first few.
    let number = args.get::<u64>(0)? & u64::from(u32::MAX);
    detail::note(args.context(), vcpu, Key::plain(Kind::Hypercall, number), 1);
    Some(())
}

#[inline(always)]
pub fn hv_hypercall<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note(args.context(), vcpu, Key::plain(Kind::HvHypercall, args.get::<u16>(0)?), 1);
    Some(())
}

/// On AMD an access to a device's memory begins so.
#[inline(always)]
pub fn page_fault<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let code = args.get::<u64>(1)? & FAULT_BITS;
    detail::note_step(args.context(), vcpu, Key::plain(Kind::Fault, code));
    Some(())
}

/// With an error the reason says nothing (virt/kvm/kvm_main.c, `KVM_RUN`).
#[inline(always)]
pub fn userspace_exit<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let (reason, error) = (args.get::<u32>(0)?, args.get::<u32>(1)?);
    let reason = if error & NEGATIVE == 0 {
        reason
    } else if error as u32 == EINTR.wrapping_neg() {
        userspace::INTERRUPTED.into()
    } else {
        userspace::FAILED.into()
    };
    detail::note_userspace(args.context(), vcpu, Key::plain(Kind::Userspace, reason));
    Some(())
}

/// Of all wakeups, those for nothing too: they end a halt just the same.
#[inline(always)]
pub fn vcpu_wakeup<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note_halt(args.context(), vcpu, args.get::<u64>(0)?, args.get::<u8>(1)? != 0);
    Some(())
}
