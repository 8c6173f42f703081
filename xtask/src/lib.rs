//! Shared parts of the programs `xtask` and `xtask-labs`: setup of the machine, build of the agent, table of test
//! programs, and arguments of the commands that `xtask-labs` implements.

pub mod build;
pub mod labs;
pub mod setup;
pub mod suite;
pub mod tool;
