//! Measurements in files: the recording format ([`mod@file`]), directories of recordings ([`archive`]), the sum of several
//! ([`MeasurementSum`]), and limits on what an untrusted file may say.

pub mod archive;
mod check;
pub mod file;
mod sum;

pub(crate) use self::check::{MOST_ROWS, check};
pub use self::sum::MeasurementSum;
