//! `vmexit record`: counts all day, and keeps what was in the last hours.

use super::{
    args::RecordArgs,
    error::Error,
    service::{Service, open_recorder},
};
use crate::view;

pub(super) async fn run(args: RecordArgs) -> Result<(), Error> {
    let recorder = open_recorder(&args.directory, args.limits.limits())?;
    let service = Service::start(&args.count, args.every).await?;
    let directory = view::path(&args.directory);
    eprintln!("vmexit: recording into {directory}; vmexit report {directory} --since 10m shows it");
    service.run(args.every, None, Some(recorder)).await
}
