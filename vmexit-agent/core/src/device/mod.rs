//! What the addresses and numbers are called that guests exit for. QEMU's own map of a VM
//! ([`mtree`]) goes before what PCs commonly have ([`well_known`]); numbers that are the same in every
//! VM have [`names`]. Text and numbers come in, names go out: nothing here asks a VM or reads a file.

pub mod mtree;

pub mod names;
mod place;
pub mod well_known;

pub use self::place::{Device, Map};
