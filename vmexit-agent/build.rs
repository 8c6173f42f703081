//! Builds the eBPF object for the agent to carry inside.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=../vmexit-common/src");
    // SAFETY: a build script's main thread, before it starts another.
    unsafe { vmexit_build::ebpf("vmexit-ebpf", "../vmexit-ebpf") }
}
