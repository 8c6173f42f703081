//! HTTP server for metrics and pages. Clients are untrusted: size and time of requests and the number of connections
//! are limited.

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

/// Maximum number of concurrent connections; further ones are closed at once.
const MAX_CONNECTIONS: usize = 32;
/// Maximum size of a request's head, bytes.
const MAX_HEAD: usize = 16 << 10;
/// Time limit of a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time limit of a connection; Prometheus then opens another.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Pause after a failed accept, such as for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Metrics and report of the last interval.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    /// Metrics as OpenMetrics text.
    pub(super) open: Bytes,
    /// Metrics in Prometheus's text format, for clients that don't accept OpenMetrics.
    pub(super) classic: Bytes,
    /// Report of the last interval.
    pub(super) report: Option<Arc<Report>>,
    /// That report as an HTML page, rendered for the first request.
    pub(super) page: Arc<OnceLock<Bytes>>,
    /// Time of the reading.
    pub(super) at: Option<Instant>,
}

impl Published {
    /// HTML page of the last interval, rendered once per interval.
    fn page(&self) -> Bytes {
        let made = || {
            self.report
                .as_deref()
                .map_or_else(Bytes::new, |report| vmexit_view::page(report).into())
        };
        self.page.get_or_init(made).clone()
    }
}

/// Serves requests until it is aborted. `/healthz` fails if the last reading is older than `stale`.
pub(super) async fn serve(
    listener: TcpListener,
    published: watch::Receiver<Published>,
    stale: Duration,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let published = published.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // Errors of a client and the time limit only end its connection.
            let _ = timeout(CONNECTION_TIME, connection(stream, published, stale)).await;
        });
    }
}

/// Serves one connection.
async fn connection(stream: TcpStream, published: watch::Receiver<Published>, stale: Duration) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = respond(&request, &published.borrow(), stale);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn respond<B>(
    request: &Request<B>,
    published: &Published,
    stale: Duration,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" if accepts_open_metrics(request) => {
            page(StatusCode::OK, OPEN_METRICS, published.open.clone())
        }
        "/metrics" => page(StatusCode::OK, CLASSIC, published.classic.clone()),
        "/" => page(StatusCode::OK, HTML, published.page()),
        "/healthz" if published.at.is_some_and(|at| at.elapsed() < stale) => {
            text(StatusCode::OK, "ok\n")
        }
        "/healthz" => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the last reading of the counters is too old\n")
        }
        _ => text(StatusCode::NOT_FOUND, "not found: use /, /metrics or /healthz\n"),
    }
}

fn accepts_open_metrics<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("application/openmetrics-text"))
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
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
        respond(&request, published, Duration::from_secs(30)).status()
    }

    #[test]
    fn respond_allows_get_of_three_paths() {
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
    fn respond_to_healthz_after_old_reading_is_unavailable() {
        let unhealthy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(status(Method::GET, "/healthz", &Published::default()), unhealthy);
        let at = Instant::now().checked_sub(Duration::from_secs(60));
        let old = Published { at, ..Published::default() };
        assert_eq!(status(Method::GET, "/healthz", &old), unhealthy);
    }
}
