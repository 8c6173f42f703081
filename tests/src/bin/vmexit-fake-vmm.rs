//! A VMM of a hostile tenant: see [`vmexit_tests::guest::fake`]. Its command line is what the test wants it to be; its
//! behaviour is in the environment.

use anyhow::Result;
use vmexit_tests::guest::fake;

fn main() -> Result<()> {
    fake::run()
}
