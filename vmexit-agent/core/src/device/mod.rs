//! Names of the addresses and numbers that exits are for.
//!
//! A VM's memory tree ([`mtree`]), obtained from QEMU, takes precedence over common PC layouts
//! ([`well_known`]). Numbers that mean the same in every VM have [`names`]. Nothing here asks a VMM
//! or reads a file.

pub mod mtree;
pub mod names;
mod place;
pub mod well_known;

pub use self::place::{Device, Map};
