//! Builds the comparators' eBPF object.

fn main() -> anyhow::Result<()> {
    // SAFETY: a build script's main thread, before it starts another.
    unsafe { vmexit_build::ebpf("vmexit-bench-ebpf", "ebpf") }
}
