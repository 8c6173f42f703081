//! `vmexit record`: records continuously to a directory.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use vmexit_core::escape;

use crate::{
    args::{CountArgs, LimitArgs, heading::CAPTURE, parse_interval},
    error::Error,
    service::{Service, open_recorder},
    warnings,
};

/// Arguments of `vmexit record`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecordArgs {
    /// Directory of the recordings; created if it does not exist
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    #[command(flatten)]
    pub(crate) count: CountArgs,

    /// Length of a recorded interval, which is the time resolution of later reports
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_interval,
        alias = "every", short_alias = 'e', help_heading = CAPTURE)]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

const EXAMPLES: &str = "\
Examples:
  vmexit record /var/lib/vmexit                         24 hours, every 10 s
  vmexit record /var/lib/vmexit -i 1m --retention 30d   30 days, every minute
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15
  vmexit explain /var/lib/vmexit --since 2h
  vmexit diff /var/lib/vmexit \\
      --before-period 02:00..03:00 --after-period 03:00..04:00
  vmexit top --replay /var/lib/vmexit --since 03:10

SIGKILL loses only the last interval. If a write fails, the interval is merged into the next. SIGHUP begins a new file.";

pub(super) async fn run(args: RecordArgs) -> Result<(), Error> {
    let recorder = open_recorder(&args.directory, args.limits.limits())?;
    let service = Service::start(&args.count, args.interval).await?;
    let directory = escape::path(&args.directory);
    warnings::say(format_args!(
        "recording into {directory}; show it with: vmexit report {directory} --since 10m"
    ));
    service.run(None, Some(recorder)).await
}
