//! Where programs find what they need: in the records of classic tracepoints, or in the arguments
//! of raw ones and the structs behind them. The agent finds out at start and hands these over as
//! frozen globals: kernels differ, and enterprise kernels shift records by padding.

/// Byte offset of a field in a record; [`ABSENT`] where this kernel's record lacks it.
pub type Offset = u32;

/// No such field in this kernel's record.
pub const ABSENT: Offset = u32::MAX;

/// Offsets within `kvm_exit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ExitLayout {
    /// `exit_reason`, u32.
    pub exit_reason: Offset,
    /// `isa`, u32.
    pub isa: Offset,
    /// `vcpu_id`, u32; kernels from 5.10 on.
    pub vcpu_id: Offset,
}

/// Most fields that are read of any other record.
pub const FIELDS: usize = 4;

/// Offsets of the fields of another tracepoint's record, in the order in which the agent's table of
/// tracepoints lists them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FieldsLayout {
    /// One for each.
    pub at: [Offset; FIELDS],
}

/// Where a raw `kvm_exit` finds the exit code. Of 64 bits, so that programs need not extend them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawExitLayout {
    /// One of the constants of [`reason_in`].
    pub reason_in: u64,
    /// BTF id of the type that addresses are cast to for a plain load: a struct that begins with a
    /// 64-bit integer; 0 where the kernel can't cast (see [`cast`](crate::cast)).
    pub cast_to: u64,
    /// With [`reason_in::POINTEE`]: bytes from the vCPU to the pointer.
    pub pointer: u64,
    /// Bytes from the vCPU or the pointee to the exit code.
    pub reason: u64,
    /// Bytes from the vCPU to its number, u32.
    pub vcpu_id: u64,
    /// Whose exit codes they are: `ISA_VMX` or `ISA_SVM`.
    pub isa: u64,
}

/// Where a raw `kvm_entry`, which passes the vCPU, finds the guest's instruction pointer. Of 64 bits
/// likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawEntryLayout {
    /// Bytes from the vCPU to the pointer as KVM has it cached, u64; 0 where that is unknown.
    pub rip: u64,
    /// Bytes from the vCPU to the bits that say which registers are cached, the first 32; 0 where all are always.
    pub cached: u64,
}

/// `VCPU_REGS_RIP`: the pointer's place among the cached registers, and its bit (`enum kvm_reg`,
/// arch/x86/include/asm/kvm_host.h).
pub const RIP: u32 = 16;

/// Where the exit code is, as seen from a raw `kvm_exit`, and where the vCPU.
pub mod reason_in {
    /// The first argument of the tracepoint, before the vCPU: Linux up to 5.15.
    pub const ARGUMENT: u64 = 0;
    /// A field of the vendor's struct around the vCPU, which is the first argument: Intel.
    pub const FIELD: u64 = 1;
    /// A field of what a pointer in that struct points to: AMD, in the VMCB.
    pub const POINTEE: u64 = 2;
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya hands globals over as bytes")]
mod pod {
    // SAFETY: `repr(C)` structs of u32 without padding: any bytes are a value.
    unsafe impl aya::Pod for super::ExitLayout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FieldsLayout {}
    // SAFETY: likewise, of u64.
    unsafe impl aya::Pod for super::RawExitLayout {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for super::RawEntryLayout {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for crate::slow::SlowLimits {}
    // SAFETY: `repr(C)`, u64 only, no padding.
    unsafe impl aya::Pod for crate::vcpu::Loss {}
}
