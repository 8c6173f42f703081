//! The kernel side of vmexit: it counts, and where it is asked to hands single slow exits over.
//!
//! `raw` takes what it needs from the tracepoints' arguments and the structs behind them, `classic`
//! from the records that the kernel makes of these; `event` says what each is; `exit` and `detail` run each vCPU's state machine
//! on it; `vcpu` finds the thread's entry; `stats` adds a finished exit up, `evict` makes room in it, `slow` hands single ones over. Names, shares and findings
//! belong to userspace.

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
