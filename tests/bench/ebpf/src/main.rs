//! eBPF programs and maps of the comparators: other designs for counting exits, loaded one at a time.
//!
//! Each comparator repeats the work of another tool event by event and call by call: the same helpers and
//! kinds of map, in the same order. The code is this project's own.

#![no_std]
#![no_main]

mod bcc;
mod bpftrace;
mod context;
mod empty;
mod floor;
mod naive;

/// The helpers for reading kernel memory are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
