//! How programs look into the kernel's structs: by plain loads where the kernel lets them, for
//! `bpf_probe_read_kernel` costs ten times as much.
//!
//! From Linux 6.2 on the kernel function `bpf_rdonly_cast(address, type)` makes an address a pointer
//! that the verifier allows loads from; the verifier replaces the call by a move, and a load that
//! faults gives 0 (`BPF_PROBE_MEM`). Which function a `call` means is said by its BTF id, which differs
//! from kernel to kernel, and there are no relocations for it in the loader: the agent looks for
//! [`UNRESOLVED`] in the object and writes what fits the running kernel.

/// `call` of a kernel function with an id that no kernel has: what the object has in place of
/// `bpf_rdonly_cast`.
pub const UNRESOLVED: u64 = call(0x7473_6163);

/// `r0 = r1`, for kernels without the function; never reached there, but every instruction must be one.
pub const NO_CALL: u64 = 0x10bf;

/// The `call` of the kernel function with this BTF id: `BPF_JMP | BPF_CALL`, source register
/// `BPF_PSEUDO_KFUNC_CALL`.
pub const fn call(function: u32) -> u64 {
    (function as u64) << 32 | 0x2085
}
