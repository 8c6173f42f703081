//! `vmexit vms`: the running VMs. Traces nothing.

use clap::Args;
use vmexit_view::Format;

use crate::{
    args::{choice, heading::OUTPUT},
    error::Error,
    output::Output,
    session::guests,
};

/// Arguments of `vmexit vms`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VmsArgs {
    /// Format
    #[arg(short, long, value_parser = choice::<Format>(), default_value = "text", help_heading = OUTPUT)]
    pub(crate) format: Format,
}

const EXAMPLES: &str = "\
Examples:
  vmexit vms                                   a table, by name
  vmexit vms --format json | jq '.vms[].pid'   for a program to read

Every process with a KVM VM is listed, of any VMM.";

pub(super) async fn run(args: VmsArgs) -> Result<(), Error> {
    let list = vmexit_view::vms(&guests::running()?, args.format)?;
    Output::open(None).await?.write(list).await
}
