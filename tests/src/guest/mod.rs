//! Bare guests: guests without firmware or kernel, for which every exit is known in advance.
//!
//! - [`BareGuest`]: numbers of exits of each kind per round. It yields a 64 KiB ROM and an [`Expected`], the exact
//!   counts.
//! - [`Qemu`]: the QEMU command that runs the ROM, on this machine or, as an argument list, in a lab.
//! - [`RunningGuest`]: a guest that runs on this machine. It prints a dot per round.
//! - [`fake`]: the VMM of a hostile tenant.
//! - [`LinuxGuest`]: a stock Linux kernel as the guest of a lab, driven by shell commands.
//!
//! ```no_run
//! use std::time::Duration;
//! use vmexit_tests::guest::{BareGuest, Qemu};
//!
//! # fn main() -> anyhow::Result<()> {
//! let guest = BareGuest::demo().rounds(20);
//! let mut running = Qemu::native("clocks").paused().start(&guest)?;
//! // An agent would start here, with running.pid().
//! running.resume()?;
//! running.wait_dots(20, Duration::from_secs(30))?;
//! assert_eq!(guest.expected(20).cpuid, 200);
//! # Ok(())
//! # }
//! ```

mod bare;
mod clock;
mod expected;
pub mod fake;
mod linux;
mod qemu;
mod qmp;
mod rom;
mod running;
pub mod vcpus;

pub use bare::{AtEnd, BareGuest};
pub use clock::GuestClock;
pub use expected::{Expected, PortAccesses, PortDirection, address};
pub use linux::LinuxGuest;
pub use qemu::{Accelerator, Qemu, QemuMachine, kvm_usable};
pub use qmp::Qmp;
pub use rom::ROM_SIZE;
pub use running::RunningGuest;
