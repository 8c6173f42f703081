//! Measurements in files: the recording format ([`mod@file`]), directories of recordings
//! ([`archive`]), sums of recordings ([`MeasurementSum`]), and limits on untrusted files.

pub mod archive;
mod check;
pub mod file;
pub mod place;
mod sum;

pub(crate) use self::check::check;
pub use self::sum::{ENDED, MeasurementSum};
