//! The kernel side of the comparators: for each way of counting exits its programs and maps, to be
//! loaded one at a time.
//!
//! The comparators do the work of other tools event by event, call by call: which helpers, which
//! kinds of map, in which order. They are this project's own code.

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
