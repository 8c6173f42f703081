//! `vmexit vms`: which VMs there are. Nothing is traced.

use crate::{error::Error, output::Output};
use vmexit_core::vm::{self, Found};

/// Arguments of `vmexit vms`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VmsArgs {
    /// How to write the list
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,
}

const EXAMPLES: &str = "\
Examples:
  vmexit vms                                   a table, by name
  vmexit vms --format json | jq '.vms[].pid'   for a program to read

Every process that holds a KVM VM is listed, whichever VMM it is.";

pub(super) async fn run(args: VmsArgs) -> Result<(), Error> {
    let list = vmexit_view::vms(&guests::running()?, args.format)?;
    Output::open(None).await?.write(list).await
}
