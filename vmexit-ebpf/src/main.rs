//! The kernel side of vmexit: eBPF programs that count exits per vCPU, and submit single slow exits if
//! asked to. Names, shares and findings belong to userspace.
//!
//! | module | task |
//! |---|---|
//! | `raw` | programs on raw tracepoints: fields from the arguments and the structs behind them |
//! | `classic` | programs on classic tracepoints: fields from the kernel's records |
//! | `event` | keys of the tracepoints between exit and entry |
//! | `exit`, `detail` | state machine of each vCPU |
//! | `vcpu` | entry of the current thread |
//! | `vcpu_stats` | counting in the vCPU's stats block |
//! | `evict` | eviction of idle rows |
//! | `slow` | records of slow exits |
//! | `maps`, `access` | maps and globals, and access to their fields |

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod access;
mod classic;
mod detail;
mod event;
mod evict;
mod exit;
mod maps;
mod raw;
mod slow;
mod vcpu;
mod vcpu_stats;

/// The helpers for reading kernel memory are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
