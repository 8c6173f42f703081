//! `vmexit serve`: counts all day, and answers Prometheus. One loop reads; what it has read is published,
//! and whoever asks gets that: nobody who asks has anything read, or waits for it.

mod http;
mod manager;
mod own;
mod privileges;

use std::{
    future::pending,
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{
    net::TcpListener,
    sync::watch,
    time::{MissedTickBehavior, interval, interval_at},
};

use self::http::Published;
use super::{args::ServeArgs, error::Error, guests::Guests, live::Live, stop::Stop};
use crate::{
    metrics::{self, Totals},
    model::{Layout, Span},
    probe::Probe,
    snapshot::{Interval, Snapshot},
};

pub(super) async fn run(args: ServeArgs) -> Result<(), Error> {
    let mut stop = Stop::new()?;
    // Before anything is traced, so that a port that is taken costs nothing.
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|source| Error::Listen { address: args.listen, source })?;
    let (probe, live) = Live::start(&args.count, Guests::find_or_wait)?;
    let asks = args.count.watch.devices.options().is_some();
    privileges::give_up(asks).map_err(Error::Privileges)?;
    let (publish, published) = watch::channel(Published::default());
    let address = listener.local_addr().unwrap_or(args.listen);
    eprintln!("vmexit: metrics at http://{address}/metrics, a page at http://{address}/");
    manager::ready();
    let server = tokio::spawn(http::serve(listener, published, 3 * args.interval));
    let mut serve = Serve { probe, live, totals: Totals::default(), publish };
    let result = serve.run(&args, &mut stop).await;
    manager::stopping();
    server.abort();
    result
}

struct Serve {
    probe: Probe,
    live: Live,
    totals: Totals,
    publish: watch::Sender<Published>,
}

impl Serve {
    async fn run(&mut self, args: &ServeArgs, stop: &mut Stop) -> Result<(), Error> {
        let mut before = Reading::now(self.probe.snapshot(|_| true)?);
        let mut tick = interval_at(tokio::time::Instant::now() + args.interval, args.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.publish(&before, &before)?;
        let mut watchdog = manager::watchdog().map(interval);
        loop {
            tokio::select! {
                biased;
                () = stop.asked() => return Ok(()),
                _ = tick.tick() => {}
                () = due(&mut watchdog) => {
                    manager::alive();
                    continue;
                }
            }
            let now = Reading::now(self.probe.snapshot(|_| true)?);
            self.live.note(&now.snapshot.pids());
            self.live.maps.collect().await;
            self.publish(&before, &now)?;
            before = now;
        }
    }

    /// Adds what was counted between two readings, and lets everybody know.
    fn publish(&mut self, before: &Reading, now: &Reading) -> Result<(), Error> {
        let interval = Interval::between(&before.snapshot, &now.snapshot);
        let span = Span::new(before.time, interval.span_ns, false);
        let report = self.live.report(&interval, span, Layout::default());
        self.live.renew(&report);
        self.totals.add(&report, &self.live.guests.known, Instant::now());
        let metrics = metrics::expose(&self.totals, own::usage()).map_err(Error::Metrics)?;
        self.publish.send_replace(Published {
            open: metrics.open.into(),
            classic: metrics.classic.into(),
            report: Some(Arc::new(report)),
            page: Arc::default(),
            at: Some(Instant::now()),
        });
        self.forget();
        Ok(())
    }

    /// Looks no further at VMs that have ended.
    fn forget(&mut self) {
        let known = self.live.guests.known.keys().copied();
        let ended: Vec<u32> = known.filter(|&pid| !crate::guest::is_running(pid)).collect();
        ended.into_iter().for_each(|pid| self.live.forget(pid));
    }
}

/// When the watchdog is to be told again: never, if there is none.
async fn due(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => drop(watchdog.tick().await),
        None => pending().await,
    }
}

struct Reading {
    snapshot: Snapshot,
    time: SystemTime,
}

impl Reading {
    fn now(snapshot: Snapshot) -> Self {
        Self { snapshot, time: SystemTime::now() }
    }
}
