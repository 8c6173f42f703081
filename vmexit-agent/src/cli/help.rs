//! Completions and manual pages, from the very definitions that arguments are read by.

use clap::CommandFactory as _;

use super::{
    args::{Cli, CompletionsArgs, ManArgs},
    error::Error,
    output::Output,
};

pub(super) async fn completions(args: &CompletionsArgs) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vmexit", &mut script);
    Output::open(None).await?.write(script.into()).await
}

/// One page for vmexit, and one for each command.
pub(super) fn man(args: &ManArgs) -> Result<(), Error> {
    let written = clap_mangen::generate_to(Cli::command(), &args.directory);
    written.map_err(|source| Error::Output { path: args.directory.clone(), source })
}
