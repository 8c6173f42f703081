//! `vmexit-vcpus N`: runs N vCPUs until standard input ends. Each accesses each of twenty ports several times a
//! second. See [`vmexit_tests::guest::vcpus`].

use std::env;

use anyhow::{Context as _, Result};
use vmexit_tests::guest::vcpus;

fn main() -> Result<()> {
    let number = env::args().nth(1).and_then(|argument| argument.parse().ok());
    let number = number.context("usage: vmexit-vcpus N")?;
    vcpus::run(&env::current_exe()?, number)
}
