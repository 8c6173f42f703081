//! Plain loads from kernel structs. They cost a tenth of a call of `bpf_probe_read_kernel`.
//!
//! The kernel function `bpf_rdonly_cast(address, type)`, from Linux 6.2 on, turns an address into a
//! pointer that the verifier allows loads from. The verifier replaces the call by a move, and a load
//! that faults returns 0 (`BPF_PROBE_MEM`). A `call` names a kernel function by its BTF ID, which
//! differs from kernel to kernel. The loader has no relocation for it, so the agent searches the object
//! for [`UNRESOLVED`] and writes the instruction for the running kernel.

/// Placeholder in the object for the call of `bpf_rdonly_cast`: a `call` with a BTF ID that no kernel
/// has.
pub const UNRESOLVED: u64 = call(0x7473_6163);

/// Replacement on kernels without the function: `r0 = r1`. It is never reached, but the verifier
/// requires every instruction to be valid.
pub const NO_CALL: u64 = 0x10bf;

/// Instruction that calls the kernel function with this BTF ID: `BPF_JMP | BPF_CALL`, source register
/// `BPF_PSEUDO_KFUNC_CALL`.
pub const fn call(function: u32) -> u64 {
    (function as u64) << 32 | 0x2085
}
