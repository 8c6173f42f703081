//! Where the fields of KVM's tracepoint records are. The agent finds out at start and hands these
//! to the programs as frozen globals: kernels differ, and enterprise kernels shift records by
//! padding.

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

/// Offsets within `kvm_pio`, all u32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PioLayout {
    /// 0 for IN, 1 for OUT.
    pub rw: Offset,
    /// The port.
    pub port: Offset,
    /// Bytes per access.
    pub size: Offset,
    /// Accesses.
    pub count: Offset,
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya hands globals over as bytes")]
mod pod {
    // SAFETY: `repr(C)` structs of u32 without padding: any bytes are a value.
    unsafe impl aya::Pod for super::ExitLayout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PioLayout {}
    // SAFETY: `repr(C)`, two u64, no padding.
    unsafe impl aya::Pod for crate::vcpu::Loss {}
}
