//! Offsets of the fields that the programs read: in the records of classic tracepoints, or in the
//! arguments of raw tracepoints and the structs behind them. Kernels differ, and enterprise kernels pad
//! their records. The agent therefore determines the offsets at start and sets them as frozen globals.

/// Byte offset of a field in a record, or [`ABSENT`].
pub type Offset = u32;

/// [`Offset`] of a field that the running kernel's record lacks.
pub const ABSENT: Offset = u32::MAX;

/// Offsets in the record of `kvm_exit`.
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

/// Most fields read from any other record.
pub const FIELDS: usize = 4;

/// Offsets in the record of any other tracepoint, in the order of the agent's table of tracepoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FieldsLayout {
    /// Offset of each field.
    pub at: [Offset; FIELDS],
}

/// Location of the exit code for a raw `kvm_exit`. The fields have 64 bits so that programs need not
/// extend them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawExitLayout {
    /// Container of the exit code: a constant of [`reason_in`].
    pub reason_in: u64,
    /// BTF ID of the type that addresses are cast to for a plain load: a struct that begins with a
    /// 64-bit integer. 0 if the kernel has no such cast (see [`cast`](crate::cast)).
    pub cast_to: u64,
    /// With [`reason_in::POINTEE`]: offset of the pointer from the vCPU, bytes.
    pub pointer: u64,
    /// Offset of the exit code from the vCPU or the pointee, bytes.
    pub reason: u64,
    /// Offset of the vCPU's number from the vCPU, bytes; the number is a u32.
    pub vcpu_id: u64,
    /// Vendor of the exit codes: `ISA_VMX` or `ISA_SVM`.
    pub isa: u64,
}

/// Location of the guest's instruction pointer for a raw `kvm_entry`, whose argument is the vCPU. The
/// fields have 64 bits as in [`RawExitLayout`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawEntryLayout {
    /// Offset of KVM's cached instruction pointer from the vCPU, bytes; a u64. 0 if unknown.
    pub rip: u64,
    /// Offset of the bitmap of cached registers from the vCPU, bytes; the first 32 bits are read. 0 if all
    /// registers are always cached.
    pub cached: u64,
}

/// `VCPU_REGS_RIP`: index of the instruction pointer among the cached registers, and its bit in the
/// bitmap (`enum kvm_reg`, arch/x86/include/asm/kvm_host.h).
pub const RIP: u32 = 16;

/// Containers of the exit code in the arguments of a raw `kvm_exit`.
pub mod reason_in {
    /// The first argument of the tracepoint; the vCPU is the second. Linux up to 5.15.
    pub const ARGUMENT: u64 = 0;
    /// A field of the vendor's struct around the vCPU; the vCPU is the first argument. Intel.
    pub const FIELD: u64 = 1;
    /// A field of the struct that a pointer in the vendor's struct points to. AMD: the VMCB.
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
