//! The eBPF object of the agent, and the relocation of its calls to a kernel function, which aya does not support.

use vmexit_common::cast::{NO_CALL, UNRESOLVED, call};

use super::ProbeError;

/// ELF file that the build script made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vmexit-ebpf"));

/// The object with its calls of `bpf_rdonly_cast` resolved to the function of a BTF ID, or replaced by a no-op
/// without one.
///
/// # Errors
/// The object has no such call, because it was built from other sources.
pub(super) fn resolved(function: Option<u32>) -> Result<Vec<u8>, ProbeError> {
    let (from, to) = (UNRESOLVED.to_le_bytes(), function.map_or(NO_CALL, call).to_le_bytes());
    let mut object = OBJECT.to_vec();
    let mut calls = 0;
    // Instructions have 8 bytes, and sections of them are aligned to 8.
    for instruction in object.chunks_exact_mut(8).filter(|bytes| **bytes == from) {
        instruction.copy_from_slice(&to);
        calls += 1;
    }
    if calls == 0 {
        return Err(ProbeError::Missing("call of bpf_rdonly_cast"));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_has_no_unresolved_call() {
        let count = |object: &[u8], instruction: u64| {
            object.chunks_exact(8).filter(|bytes| **bytes == instruction.to_le_bytes()).count()
        };
        let calls = count(OBJECT, UNRESOLVED);
        for (function, becomes) in [(Some(4711), call(4711)), (None, NO_CALL)] {
            let object = resolved(function).unwrap();
            assert_eq!(count(&object, UNRESOLVED), 0);
            assert_eq!(count(&object, becomes) - count(OBJECT, becomes), calls);
        }
    }
}
