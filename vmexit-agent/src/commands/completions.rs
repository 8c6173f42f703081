//! `vmexit completions` and `vmexit man`: generated from the definitions of the arguments.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use crate::{error::Error, output::Output};

/// Arguments of `vmexit completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete arguments in
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Arguments of `vmexit man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Existing directory to write to
    pub(crate) directory: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  vmexit completions bash > /etc/bash_completion.d/vmexit
  vmexit completions zsh > /usr/local/share/zsh/site-functions/_vmexit
  vmexit completions fish > ~/.config/fish/completions/vmexit.fish";

pub(super) async fn completions(args: &CompletionsArgs) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vmexit", &mut script);
    Output::open(None).await?.write(script.into()).await
}

/// Writes a page for vmexit and one for each command.
pub(super) fn man(args: &ManArgs) -> Result<(), Error> {
    let written = clap_mangen::generate_to(Cli::command(), &args.directory);
    written.map_err(|source| Error::Output { path: args.directory.clone(), source })
}
