//! Bare guests: small enough to know every exit they make, real enough to run on any KVM.
//!
//! A [`BareGuest`] says how many exits of each kind make up a round; it becomes a 64 KiB ROM and
//! an [`Expected`], the exact counts. A [`Qemu`] starts the ROM, here or (as an argument list) in
//! another machine; a [`RunningGuest`] is the one that runs here, and prints a dot a round.
//!
//! A [`LinuxGuest`] is the other kind: a stock kernel in a lab, to be told what to do.
//!
//! ```no_run
//! use std::time::Duration;
//! use vmexit_tests::guest::{BareGuest, Qemu};
//!
//! # fn main() -> anyhow::Result<()> {
//! let guest = BareGuest::demo().rounds(20);
//! let mut running = Qemu::native("clocks").paused().start(&guest)?;
//! // Whatever counts exits starts here, with running.pid().
//! running.resume()?;
//! running.wait_dots(20, Duration::from_secs(30))?;
//! assert_eq!(guest.expected(20).cpuid, 200);
//! # Ok(())
//! # }
//! ```

mod bare;
mod clock;
mod expected;
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
