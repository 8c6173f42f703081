//! Guests that know how many exits they made, and labs that turn them into real ones.
//!
//! `guest` builds ROMs with a known round of exits and starts them under QEMU; `lab` boots a stock
//! kernel under emulation, so that KVM's exit tracepoints fire on a machine without VT-x or SVM;
//! `agent` runs the program under test, `scenario` a guest and the agent together in a lab;
//! `hist_triggers` has the kernel add up the same events, `tmux` is a terminal, `served` asks over HTTP, `prometheus` has
//! Debian's; `debian` is one to install into, `packages` what is installed.

pub mod agent;
pub mod debian;
pub mod guest;
pub mod hist_triggers;
pub mod lab;
pub mod namespaces;
pub mod packages;
pub mod prometheus;
pub mod scenario;
pub mod served;
pub mod tmux;
