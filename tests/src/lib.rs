//! Support library of the end-to-end tests.
//!
//! - `guest`: guests with a known number of exits per round, and QEMU to run them.
//! - `lab`: a stock kernel under emulation. KVM's exit tracepoints fire there on any machine, with or without
//!   VT-x or SVM.
//! - `agent`: the program under test, run as a command.
//! - `scenario`: scripts that run a guest and the agent together in a lab.
//! - `hist_triggers`: the kernel's own sums of the same events.
//! - `namespaces`: commands in namespaces without a VM.
//! - `tmux`: terminals. `served`: HTTP client for `vmexit serve`. `hostile`: hostile ones. `prometheus`: Debian's Prometheus.
//! - `packages`: the packages that are shipped. `debian`: a Debian to install them in.

pub mod agent;
pub mod debian;
pub mod guest;
pub mod hist_triggers;
pub mod hostile;
pub mod lab;
pub mod namespaces;
pub mod packages;
pub mod prometheus;
pub mod scenario;
pub mod served;
pub mod tmux;
