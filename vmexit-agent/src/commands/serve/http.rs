//! A few pages over HTTP for whoever asks, none of whom is trusted: what is read of a request, how long
//! it may take and how many may ask at once is bounded.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use vmexit_core::report::Report;

/// Connections at once; more are closed as they come.
const MOST_CONNECTIONS: usize = 32;
/// Bytes of a request's head that are kept.
const LONGEST_HEAD: usize = 16 << 10;
/// A request's head takes so long at most.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A connection lasts so long at most, whatever it does; Prometheus makes a new one.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// When the system has no descriptor left it is asked again after so long.
const PAUSE: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What was read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    /// All sums, as OpenMetrics text.
    pub(super) open: Bytes,
    /// The same for those who do not ask for that.
    pub(super) classic: Bytes,
    /// The last interval.
    pub(super) report: Option<Arc<Report>>,
    /// The same as a page, once somebody has asked.
    pub(super) page: Arc<OnceLock<Bytes>>,
    /// When.
    pub(super) at: Option<Instant>,
}

impl Published {
    /// However many ask, it is made once for each interval.
    fn page(&self) -> Bytes {
        let made = || {
            self.report
                .as_deref()
                .map_or_else(Bytes::new, |report| vmexit_view::page(report).into())
        };
        self.page.get_or_init(made).clone()
    }
}

/// Answers until it is aborted. What is older than `stale` is not healthy.
pub(super) async fn serve(
    listener: TcpListener,
    published: watch::Receiver<Published>,
    stale: Duration,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let published = published.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // Whoever is too slow is cut off; what a peer does wrong is its own affair.
            let _ = timeout(CONNECTION_TIME, connection(stream, published, stale)).await;
        });
    }
}

async fn connection(stream: TcpStream, published: watch::Receiver<Published>, stale: Duration) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &published.borrow(), stale);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(LONGEST_HEAD);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer<B>(
    request: &Request<B>,
    published: &Published,
    stale: Duration,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = said(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" if takes_open_metrics(request) => {
            page(StatusCode::OK, OPEN_METRICS, published.open.clone())
        }
        "/metrics" => page(StatusCode::OK, CLASSIC, published.classic.clone()),
        "/" => page(StatusCode::OK, HTML, published.page()),
        "/healthz" if published.at.is_some_and(|at| at.elapsed() < stale) => {
            said(StatusCode::OK, "ok\n")
        }
        "/healthz" => said(StatusCode::SERVICE_UNAVAILABLE, "the counters were not read lately\n"),
        _ => said(StatusCode::NOT_FOUND, "there are /, /metrics and /healthz\n"),
    }
}

fn takes_open_metrics<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("application/openmetrics-text"))
}

fn said(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    page(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, path: &str, published: &Published) -> StatusCode {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        answer(&request, published, Duration::from_secs(30)).status()
    }

    #[test]
    fn there_are_three_pages_and_one_way_to_ask() {
        let fresh = Published { at: Some(Instant::now()), ..Published::default() };
        for path in ["/", "/metrics", "/healthz", "/metrics?name=x"] {
            assert_eq!(status(Method::GET, path, &fresh), StatusCode::OK, "{path}");
            assert_eq!(
                status(Method::POST, path, &fresh),
                StatusCode::METHOD_NOT_ALLOWED,
                "{path}"
            );
        }
        assert_eq!(status(Method::GET, "/etc/passwd", &fresh), StatusCode::NOT_FOUND);
    }

    #[test]
    fn old_figures_are_not_healthy() {
        let unhealthy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(status(Method::GET, "/healthz", &Published::default()), unhealthy);
        let at = Instant::now().checked_sub(Duration::from_secs(60));
        let old = Published { at, ..Published::default() };
        assert_eq!(status(Method::GET, "/healthz", &old), unhealthy);
    }
}
