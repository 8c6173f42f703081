//! What KVM guests exit for, which device it is, and what it costs.
//!
//! Data flows one way: kernel maps ([`probe`]) → [`snapshot`] → [`recording`] → [`model`] → [`view`]. [`host`] finds
//! out what the kernel offers, [`guest`] who the VMs are, [`monitor`] what a VMM says of its devices,
//! [`reason`] what exit codes are called, [`device`] what is at an address and what registers and
//! calls are called, [`finding`] what it all means; [`cli`] ties them together, [`doctor`] says how they
//! fare on this host.

pub mod cli;
pub mod device;
pub mod diff;
pub mod doctor;
pub mod finding;
pub mod guest;
pub mod host;
pub mod import;
pub mod metrics;
pub mod model;
pub mod monitor;
pub mod probe;
pub mod reason;
pub mod recording;
pub mod sampler;
pub mod snapshot;
pub mod view;
