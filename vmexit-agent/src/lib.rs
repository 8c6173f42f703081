//! The vmexit agent: what traces, asks and serves. What was counted and what it means is `vmexit_core`'s, how it is shown is
//! `vmexit_view`'s.
//!
//! [`probe`] loads the eBPF programs and reads their maps, [`sampler`] keeps what that costs within a limit, [`host`] finds out what
//! the kernel offers, [`discover`] which VMs there are, [`monitor`] asks a VMM about its devices, [`doctor`] checks all
//! of that. A session (`session`) turns them into measurements, which [`commands`] show, keep and serve.

pub(crate) mod args;
pub mod commands;
pub mod discover;
pub mod doctor;
pub mod error;
pub mod host;
pub mod monitor;
pub(crate) mod output;
pub mod probe;
pub mod sampler;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod stop;
pub mod warnings;
