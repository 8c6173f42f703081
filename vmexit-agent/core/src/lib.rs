//! Counts of KVM exits and their meaning: everything between the kernel side's counters and a rendered
//! report.
//!
//! - [`counters`]: a snapshot of the kernel side's counters, and the interval between two snapshots.
//! - [`measurement`]: an interval with its circumstances. [`store`] keeps measurements in files, and
//!   [`import`] makes them from the output of other tools.
//! - [`report`]: a measurement with names, shares and percentiles. [`finding`] assesses it, [`diff`]
//!   compares two.
//!
//! This crate does not trace, query a VMM or render. Only [`store`] accesses files.
//!
//! # Example
//!
//! Reads a recording and prints the findings of each VM in it:
//!
//! ```
//! use std::{fs::File, io::BufReader};
//!
//! use vmexit_core::{finding, report::Scope, store::file};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recording/2-demo.vmexit");
//! let measurement = file::read(BufReader::new(File::open(path)?))?;
//!
//! let report = finding::report(&measurement, Scope::default());
//! for vm in &report.vms {
//!     println!("{}: {} exits", vm.name, vm.total.samples);
//!     for finding in &vm.assessment.findings {
//!         println!("  {}: {:.2}% of exits", finding.title, finding.figures.exits_percent);
//!     }
//! }
//!
//! let vm = &report.vms[0];
//! assert_eq!(vm.total.samples, 174_710);
//! let costliest = &vm.assessment.findings[0];
//! assert_eq!((costliest.rule, costliest.figures.samples), ("acpi-pm-timer", 123_500));
//! # Ok(())
//! # }
//! ```

pub mod choice;
pub mod counters;
pub mod device;
pub mod diff;
pub mod escape;
pub mod event;
pub mod finding;
pub mod host;
pub mod import;
pub mod kind;
pub mod measurement;
pub mod reason;
pub mod report;
pub mod sampling;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timing;
pub mod units;
pub mod vendor;
pub mod vm;
