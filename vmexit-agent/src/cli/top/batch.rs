//! `vmexit top --batch`: a report for each interval, one after the other.

use std::{path::Path, time::SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::super::{
    args::TopArgs, config::Config, error::Error, guests::Guests, live::Live, output::print,
    stop::Stop,
};
use crate::{
    model::{Layout, Report, Span},
    snapshot::Interval,
    view::{self, ReportFormat},
};

/// Prints as many as were asked for, until somebody asks to stop or nobody reads any more.
pub(super) async fn run(args: &TopArgs, config: &Config) -> Result<(), Error> {
    let mut stop = Stop::new()?;
    let layout = Layout {
        by: args.by,
        sort: args.sort.unwrap_or(config.sort),
        top: Some(args.top as usize),
        ..Layout::default()
    };
    if let Some(path) = &args.replay.file {
        return replay(path, args, layout).await;
    }
    let period = args.interval.unwrap_or(config.interval);
    let (mut probe, mut live) = Live::start(&args.count, period, Guests::find).await?;
    let mut tick = interval_at(Instant::now() + period, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = probe.snapshot(|_| true)?;
    for frame in 0..args.frames.unwrap_or(u64::MAX) {
        let started = SystemTime::now();
        loop {
            tokio::select! {
                biased;
                () = stop.asked() => return Ok(()),
                _ = tick.tick() => break,
                () = live.due() => live.turn(&mut probe)?,
            }
        }
        let now = probe.snapshot(|_| true)?;
        live.note(&now.pids());
        live.maps.collect().await;
        let interval = Interval::between(&before, &now);
        live.adjust(&mut probe, &interval)?;
        let report = live.report(&interval, Span::new(started, &interval, false), layout);
        live.renew(&report);
        if !print_one(frame, &report).await? {
            break;
        }
        before = now;
    }
    Ok(())
}

/// Prints what was recorded, without waiting in between.
async fn replay(path: &Path, args: &TopArgs, layout: Layout) -> Result<(), Error> {
    let frames = args.frames.unwrap_or(u64::MAX);
    for (frame, recording) in (0..frames).zip(super::intervals(path, args)?) {
        if !print_one(frame, &recording?.report(layout)).await? {
            break;
        }
    }
    Ok(())
}

/// Says whether anybody reads it still.
async fn print_one(frame: u64, report: &Report) -> Result<bool, Error> {
    let mut text = if frame == 0 { Vec::new() } else { b"\n".to_vec() };
    text.extend(view::render(report, ReportFormat::Text)?);
    print(Bytes::from(text)).await
}
