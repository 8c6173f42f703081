//! What was counted, and what it means.
//!
//! [`counters`] are the kernel side's numbers: a snapshot, and the interval between two. A [`measurement`] is an interval with
//! its circumstances; [`store`] keeps measurements in files, [`import`] makes them from other tools' text. A [`report`]
//! gives a measurement names, shares and percentiles, [`finding`] assesses it, [`diff`] compares two.
//!
//! Nothing here traces, asks a VMM, or renders: [`store`] alone touches files.

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
