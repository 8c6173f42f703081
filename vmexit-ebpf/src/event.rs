//! Events between exit and entry: one function per KVM tracepoint, which makes the key of the exit's
//! detail from the tracepoint's fields. The read path, raw or classic, is behind [`Arguments`].

use vmexit_common::key::{Key, Kind, userspace};

use crate::{
    detail,
    vcpu::{self, Context},
};

/// Arguments of a program.
pub trait Arguments {
    /// Context that the program was called with.
    fn context(&self) -> Context;

    /// Field number `n` in the agent's table of tracepoints, of the type that is listed there. `None` if it
    /// can't be read.
    fn get<T: Copy + Into<u64>>(&self, n: usize) -> Option<u64>;
}

/// `type` of a `kvm_mmio` for a read that userspace has yet to answer. Another `kvm_mmio` follows with the
/// answer (arch/x86/kvm/trace.h).
const READ_UNSATISFIED: u64 = 0;
/// `type` of a `kvm_mmio` for a write.
const WRITE: u64 = 2;

/// Bits of a page fault's code that describe the access, for both vendors. Intel: access and permissions
/// in the exit qualification. AMD: the bits of the CPU's own page-fault error code.
const FAULT_BITS: u64 = 0x3f;

const EINTR: u32 = 4;
/// Sign bits of an int that was converted to u64, with or without sign extension.
const NEGATIVE: u64 = u64::MAX << 31;

/// `kvm_pio`: an access to an I/O port.
#[inline(always)]
pub fn pio<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let (write, port, size) = (args.get::<u32>(0)?, args.get::<u32>(1)?, args.get::<u32>(2)?);
    detail::note(args.context(), vcpu, Key::pio(port, write, size), args.get::<u32>(3)?);
    Some(())
}

/// `kvm_mmio`: an access to a memory-mapped register.
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

/// `kvm_fast_mmio`: a write to an ioeventfd.
#[inline(always)]
pub fn fast_mmio<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let key = Key::mmio(args.get::<u64>(0)?, 0, 0).value();
    detail::note(args.context(), vcpu, Key::plain(Kind::FastMmio, key), 1);
    Some(())
}

/// `kvm_msr`: an access to a model-specific register.
#[inline(always)]
pub fn msr<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let (write, number) = (args.get::<u32>(0)?, args.get::<u32>(1)?);
    detail::note(args.context(), vcpu, Key::msr(number, write), 1);
    Some(())
}

/// `kvm_cpuid`: a CPUID leaf. KVM looks leaves up for itself too, within exits for other reasons.
#[inline(always)]
pub fn cpuid<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note_step(args.context(), vcpu, Key::plain(Kind::Cpuid, args.get::<u32>(0)?));
    Some(())
}

/// `kvm_hypercall`: a hypercall to KVM.
#[inline(always)]
pub fn hypercall<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    // A number of 64 bits; all existing hypercalls use the low few.
    let number = args.get::<u64>(0)? & u64::from(u32::MAX);
    detail::note(args.context(), vcpu, Key::plain(Kind::Hypercall, number), 1);
    Some(())
}

/// `kvm_hv_hypercall`: a Hyper-V hypercall.
#[inline(always)]
pub fn hv_hypercall<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note(args.context(), vcpu, Key::plain(Kind::HvHypercall, args.get::<u16>(0)?), 1);
    Some(())
}

/// `kvm_page_fault`: a page fault on guest memory. On AMD, an access to a memory-mapped register begins
/// with one.
#[inline(always)]
pub fn page_fault<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    let code = args.get::<u64>(1)? & FAULT_BITS;
    detail::note_step(args.context(), vcpu, Key::plain(Kind::Fault, code));
    Some(())
}

/// `kvm_userspace_exit`: the return from `KVM_RUN`. With an error the reason is meaningless
/// (virt/kvm/kvm_main.c, `KVM_RUN`).
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

/// `kvm_vcpu_wakeup`: the end of a halt. Spurious wakeups count too: they end the halt all the same.
#[inline(always)]
pub fn vcpu_wakeup<A: Arguments>(args: &A) -> Option<()> {
    let vcpu = vcpu::current_or_new(args.context())?;
    detail::note_halt(args.context(), vcpu, args.get::<u64>(0)?, args.get::<u8>(1)? != 0);
    Some(())
}
