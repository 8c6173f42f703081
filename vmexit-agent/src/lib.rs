//! The vmexit agent: everything that touches the running system. Counters, reports and recordings are in
//! `vmexit_core`, text, JSON, HTML, metrics and the screen of `vmexit top` in `vmexit_view`.
//!
//! From the kernel to the commands:
//!
//! - [`host`]: kernel, KVM, capabilities, tracefs and BTF of this host
//! - [`discover`]: VMs, from `/proc`
//! - [`monitor`]: memory trees of VMs, from QMP or libvirt
//! - [`probe`]: eBPF programs, loaded, attached and read
//! - [`sampler`]: limits on the cost, by timing fewer exits or counting in windows
//! - `session`: sequences of measurements, of running VMs or from recordings
//! - `service`: the loop of `vmexit serve` and `vmexit record`
//! - [`doctor`]: checks whether this host can be traced
//! - [`commands`]: the command line, one module per command
//! - `args`: arguments that several commands share
//! - `output`: standard output and output files
//! - [`error`]: errors of commands and their exit codes
//! - `stop`: SIGINT and SIGTERM
//! - [`warnings`]: the log, on standard error or held while a screen is open

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
