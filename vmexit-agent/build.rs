//! Builds the eBPF object that is embedded in the agent.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=../vmexit-common/src");
    // SAFETY: the only thread of the build script so far.
    unsafe { vmexit_build::ebpf("vmexit-ebpf", "../vmexit-ebpf") }
}
