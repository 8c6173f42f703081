//! `vmexit serve`: counts continuously and serves metrics to Prometheus. One loop reads the counters and publishes
//! the result. Another thread answers requests from it: they cause no reading and wait for none.

mod connections;
mod http;
mod usage;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::sync::watch;
use vmexit_core::{finding, measurement::Measurement, report::Scope};
use vmexit_view::metrics::{self, Totals};

use self::http::Published;
use crate::{
    args::{
        CountArgs, LimitArgs,
        heading::{CAPTURE, OUTPUT},
        parse_interval,
    },
    error::Error,
    service::{Publish, Service, open_recorder},
    warnings,
};

/// Arguments of `vmexit serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) count: CountArgs,

    /// Address to listen on
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9762", help_heading = OUTPUT)]
    pub(crate) listen: SocketAddr,

    /// Time between readings
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_interval,
        help_heading = CAPTURE)]
    pub(crate) interval: Duration,

    /// Record to this directory too, as vmexit record does
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub(crate) record: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

const EXAMPLES: &str = "\
Examples:
  vmexit serve                            on 127.0.0.1:9762, every 10 seconds
  vmexit serve --listen [::]:9762 -i 30s  for other hosts too
  vmexit serve --record /var/lib/vmexit   for report and top --replay too
  vmexit serve --timing 1/16              exact counts, sampled times: cheaper
  curl -s http://127.0.0.1:9762/metrics   see docs/metrics.md

/ is a page of the last interval; /healthz is 200 while the counters are read, else 503.";

pub(super) async fn run(args: ServeArgs) -> Result<(), Error> {
    // Before anything is traced, so that a port or directory in use fails at once.
    let failed = |source| Error::Listen { address: args.listen, source };
    let listener = http::listen(args.listen).map_err(failed)?;
    let open = |directory| open_recorder(directory, args.limits.limits());
    let recorder = args.record.as_deref().map(open).transpose()?;
    let service = Service::start(&args.count, args.interval).await?;
    let (publish, published) = watch::channel(Published::default());
    let address = listener.local_addr().unwrap_or(args.listen);
    warnings::say(format_args!("metrics at http://{address}/metrics, a page at http://{address}/"));
    // Started with the capabilities that are left.
    http::start(listener, published, 3 * args.interval).map_err(failed)?;
    let mut metrics = Metrics { totals: Totals::default(), publish };
    service.run(Some(&mut metrics), recorder).await
}

/// Sums of all intervals, published for the HTTP server.
struct Metrics {
    totals: Totals,
    publish: watch::Sender<Published>,
}

impl Publish for Metrics {
    fn publish(&mut self, measurement: &Measurement) -> Result<(), Error> {
        let report = finding::report(measurement, Scope::default());
        self.totals.add(&report, &measurement.vms, Instant::now());
        let metrics = metrics::expose(&self.totals, usage::agent()).map_err(Error::Metrics)?;
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
