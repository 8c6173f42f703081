//! `vmexit record`: records continuously to a directory.

use vmexit_core::escape;


use crate::{
    error::Error,
    service::{Service, open_recorder},
};

/// Arguments of `vmexit record`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecordArgs {
    /// Directory for the recordings; it is made if it is not there
    pub(crate) directory: PathBuf,

    /// Length of an interval: as exact as it can be told later when something was
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_interval)]
    pub(crate) every: Duration,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    #[command(flatten)]
    pub(crate) count: CountArgs,
}

const EXAMPLES: &str = "\
Examples:
  vmexit record /var/lib/vmexit                            the last 24 hours, each 10 seconds
  vmexit record /var/lib/vmexit --every 1m --keep 30days   a month, each minute
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15
  vmexit explain /var/lib/vmexit --since 2h                what of the last two hours is worth a change
  vmexit diff /var/lib/vmexit --before 02:00..03:00 --after 03:00..04:00
  vmexit top --replay /var/lib/vmexit --since 03:10

Whatever ends it, even SIGKILL, what was recorded until then is kept, but for the last interval. What can't
be written, for the disk is full, say, becomes one interval with the next. SIGHUP begins a new file.";

pub(super) async fn run(args: RecordArgs) -> Result<(), Error> {
    let recorder = open_recorder(&args.directory, args.limits.limits())?;
    let service = Service::start(&args.count, args.interval).await?;
    let directory = escape::path(&args.directory);
    eprintln!("vmexit: recording into {directory}; vmexit report {directory} --since 10m shows it");
    service.run(None, Some(recorder)).await
}
