//! `vmexit top --batch`: a text report for each interval.

use bytes::Bytes;
use vmexit_core::{finding, measurement::Measurement};
use vmexit_view::{ReportFormat, TableOptions};

use super::{TopArgs, config::Config, replay_session};
use crate::{
    error::Error,
    output::print,
    session::{Session, guests::Guests, live::LiveSession},
    stop::Stop,
};

/// Prints the requested number of reports, or until a request to stop or the reader closes the output.
pub(super) async fn run(args: &TopArgs, config: &Config) -> Result<(), Error> {
    let options = TableOptions {
        by: args.by,
        sort: args.sort.unwrap_or(config.sort),
        rows: Some(args.rows as usize),
    };
    match &args.replay.file {
        Some(path) => print_all(replay_session(path, args)?, args, &options).await,
        None => {
            let period = args.interval.unwrap_or(config.interval);
            let session = LiveSession::start(&args.count, period, period, Guests::find).await?;
            print_all(session, args, &options).await
        }
    }
}

async fn print_all(
    mut session: impl Session,
    args: &TopArgs,
    options: &TableOptions,
) -> Result<(), Error> {
    let mut stop = Stop::new()?;
    for frame in 0..args.frames.unwrap_or(u64::MAX) {
        let next = tokio::select! {
            biased;
            () = stop.requested() => break,
            next = session.next() => next?,
        };
        let Some(measurement) = next else { break };
        if !print_one(frame, &measurement, options).await? {
            break;
        }
    }
    Ok(())
}

/// Prints a report; false if the reader has closed the output.
async fn print_one(
    frame: u64,
    measurement: &Measurement,
    options: &TableOptions,
) -> Result<bool, Error> {
    let report = finding::report(measurement, options.scope());
    let mut text = if frame == 0 { Vec::new() } else { b"\n".to_vec() };
    text.extend(vmexit_view::render(report, options, ReportFormat::Text)?);
    print(Bytes::from(text)).await
}
