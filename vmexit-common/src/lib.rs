//! What crosses the kernel boundary, in one place: the layouts of the maps' values, the keys that
//! name a row, the histogram's buckets, and the limits that keep all of it bounded.
//!
//! The kernel side (`vmexit-ebpf`) writes these types, the agent reads them through a shared
//! mapping or a copy. Sizes and offsets are asserted, so that the two can not drift apart unnoticed.

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
