//! `vmexit serve`: counts all day, and answers Prometheus. One loop reads; what it has read is published,
//! and whoever asks gets that: nobody who asks has anything read, or waits for it.

mod http;
mod own;

use std::{sync::Arc, time::Instant};

use tokio::{net::TcpListener, sync::watch};

use self::http::Published;
use super::{
    args::ServeArgs,
    error::Error,
    live::Live,
    service::{Publish, Service, open_recorder},
};
use crate::{
    metrics::{self, Totals},
    model::Report,
};

pub(super) async fn run(args: ServeArgs) -> Result<(), Error> {
    // Before anything is traced, so that a port or directory that is taken costs nothing.
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|source| Error::Listen { address: args.listen, source })?;
    let open = |directory| open_recorder(directory, args.limits.limits());
    let recorder = args.record.as_deref().map(open).transpose()?;
    let service = Service::start(&args.count, args.interval).await?;
    let (publish, published) = watch::channel(Published::default());
    let address = listener.local_addr().unwrap_or(args.listen);
    eprintln!("vmexit: metrics at http://{address}/metrics, a page at http://{address}/");
    let server = tokio::spawn(http::serve(listener, published, 3 * args.interval));
    let mut metrics = Metrics { totals: Totals::default(), publish };
    let result = service.run(args.interval, Some(&mut metrics), recorder).await;
    server.abort();
    result
}

struct Metrics {
    totals: Totals,
    publish: watch::Sender<Published>,
}

impl Publish for Metrics {
    /// Adds what was counted, and lets everybody know.
    fn publish(&mut self, report: Report, live: &Live) -> Result<(), Error> {
        self.totals.add(&report, &live.guests.known, Instant::now());
        let metrics = metrics::expose(&self.totals, own::usage()).map_err(Error::Metrics)?;
        self.publish.send_replace(Published {
            open: metrics.open.into(),
            classic: metrics.classic.into(),
            report: Some(Arc::new(report)),
            page: Arc::default(),
            at: Some(Instant::now()),
        });
        Ok(())
    }
}
