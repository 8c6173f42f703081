//! The parts that the project's own commands share: the machine's set-up, the agent's build, the table of test
//! programs, and the arguments of the commands that `xtask-labs` carries out.

pub mod build;
pub mod labs;
pub mod setup;
pub mod suite;
pub mod tool;
