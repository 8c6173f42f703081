//! Builds the comparators' eBPF object.

fn main() -> anyhow::Result<()> {
    // SAFETY: this is the main thread of the build script, which has no other threads yet.
    unsafe { vmexit_build::ebpf("vmexit-bench-ebpf", "ebpf") }
}
