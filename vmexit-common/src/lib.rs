//! Types shared between the eBPF programs and the agent: the layouts of the maps' values, the keys of
//! rows, the histogram's buckets, and the limits that bound all of them.
//!
//! The kernel side (`vmexit-ebpf`) writes these types. The agent reads them through a shared mapping or
//! a copy. Sizes and offsets are asserted at compile time, so that both sides agree.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod cast;
pub mod histogram;
pub mod key;
pub mod layout;
pub mod sampler;
pub mod slow;
pub mod stats;
pub mod vcpu;
