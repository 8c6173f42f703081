//! HTTP server for metrics and pages, in a thread of its own. Clients are untrusted: the number of connections, and the
//! size and time of each request and answer are limited.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    thread,
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
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    sync::watch,
    task::{spawn_blocking, yield_now},
    time::{sleep, timeout},
};
use vmexit_core::report::Report;

use super::connections::{AskedAt, Connections};

/// Maximum size of a request's head, bytes.
const MAX_HEAD: usize = 16 << 10;
/// Time limit of a request's head.
const HEAD_TIME: Duration = Duration::from_secs(3);
/// Time limit of an answer; Prometheus waits ten seconds by default.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Pause after a failed accept for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(20);
/// Size of a connection's buffers in the kernel, bytes, which doubles it (socket(7)). Clients that never read, and
/// data that is never read, take no more of the kernel's memory.
const SEND_BUFFER: u32 = 128 << 10;
/// The same for what is received: requests are small.
const RECEIVE_BUFFER: u32 = 16 << 10;
/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1_024;

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

/// Listens on an address.
///
/// # Errors
/// The address can't be bound.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit these.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // How long the kernel keeps data that the client does not take, also after the connection is closed here.
    set_tcp_user_timeout(&socket, ANSWER_TIME.as_millis() as u32)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Starts the thread that serves requests until the process ends, so that neither clients nor counting wait for each
/// other. `/healthz` fails if the last reading is older than `stale`.
///
/// # Errors
/// The thread can't be started.
pub(super) fn start(
    listener: TcpListener,
    published: watch::Receiver<Published>,
    stale: Duration,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    // One thread renders pages.
    let runtime =
        runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let serve = async move {
        if let Ok(listener) = TcpListener::from_std(listener) {
            serve(listener, published, stale).await;
        }
    };
    thread::Builder::new().name("http".into()).spawn(move || runtime.block_on(serve))?;
    Ok(())
}

/// Serves requests without an end.
async fn serve(listener: TcpListener, published: watch::Receiver<Published>, stale: Duration) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                connections.make_room();
                let asked = AskedAt::default();
                let task = connection(stream, published.clone(), stale, asked.clone());
                let task = tokio::spawn(task).abort_handle();
                connections.add(client.ip(), asked, task);
                // A request that has arrived is answered before the next connection is accepted.
                yield_now().await;
            }
            Err(error) if is_shortage(&error) => {
                if connections.note_shortage() {
                    // Tasks end, and close their connections.
                    yield_now().await;
                } else {
                    sleep(PAUSE).await;
                }
            }
            // The client has gone already.
            Err(_) => yield_now().await,
        }
    }
}

/// Whether a call failed for lack of descriptors or memory.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}

/// Serves one request and closes the connection. Errors of a client and the time limits only end its connection.
async fn connection(
    stream: TcpStream,
    published: watch::Receiver<Published>,
    stale: Duration,
    asked: AskedAt,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let published = published.borrow().clone();
        // The first request is the only one.
        asked.get_or_init(Instant::now);
        async move {
            if request.uri().path() == "/" {
                let published = published.clone();
                // A failed rendering is tried again below.
                let _ = spawn_blocking(move || drop(published.page())).await;
            }
            Ok::<_, Infallible>(respond(&request, &published, stale))
        }
    });
    let mut http = http1::Builder::new();
    // One request for each connection: without later ones, no client holds its place after its answer, and none can
    // queue requests whose answers it never reads.
    http.keep_alive(false).timer(TokioTimer::new());
    http.header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    let served = http.serve_connection(TokioIo::new(stream), service);
    let _ = timeout(HEAD_TIME + ANSWER_TIME, served).await;
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
    use std::{
        collections::VecDeque,
        io::{Read as _, Write as _},
        net::{Shutdown, TcpStream},
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// Number of hostile connections at a time.
    const HOSTILE: usize = 1_000;
    const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Starts the server with metrics of several megabytes, more than the kernel's buffers take.
    fn started() -> SocketAddr {
        let (publish, published) = watch::channel(Published {
            classic: vec![b'm'; 4 << 20].into(),
            at: Some(Instant::now()),
            ..Published::default()
        });
        let listener = runtime().block_on(async { listen(([127, 0, 0, 1], 0).into()) }).unwrap();
        let address = listener.local_addr().unwrap();
        start(listener, published, Duration::from_secs(60)).unwrap();
        // The server ends with the process.
        std::mem::forget(publish);
        address
    }

    /// A connection that is silent, has sent a part of a request, never reads its answers, or is half closed.
    fn hostile(address: SocketAddr, kind: usize) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        match kind % 4 {
            0 => {}
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nX-")?,
            2 => stream.write_all(&SCRAPE.repeat(20))?,
            _ => {
                stream.write_all(b"GET /")?;
                stream.shutdown(Shutdown::Write)?;
            }
        }
        Ok(stream)
    }

    /// Number of bytes of an answer, and the time it took.
    fn scrape(address: SocketAddr) -> io::Result<(usize, Duration)> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(SCRAPE)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok((answer.len(), begun.elapsed()))
    }

    #[test]
    fn scrape_among_1000_renewed_hostile_connections_takes_less_than_a_second() {
        let address = started();
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut open = VecDeque::new();
                for kind in 0.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    open.extend(hostile(address, kind));
                    if open.len() > HOSTILE {
                        open.pop_front();
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            // Until the flood is complete.
            thread::sleep(Duration::from_secs(1));
            let scrapes: Vec<_> = (0..20).map(|_| scrape(address)).collect();
            ends.store(true, Ordering::Relaxed);
            for scrape in scrapes {
                let (bytes, time) = scrape.unwrap();
                assert!(bytes > 4 << 20 && time < Duration::from_secs(1), "{bytes} {time:?}");
            }
        });
    }

    #[test]
    fn silent_connection_is_closed_after_head_time() {
        let address = started();
        for kind in [0, 1] {
            let begun = Instant::now();
            let mut stream = hostile(address, kind).unwrap();
            stream.set_read_timeout(Some(3 * HEAD_TIME)).unwrap();
            // A refusal, or nothing.
            stream.read_to_end(&mut Vec::new()).unwrap();
            assert!(begun.elapsed() < 2 * HEAD_TIME, "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn connection_has_one_request() {
        let mut stream = hostile(started(), 2).unwrap();
        let mut answers = Vec::new();
        // Unread requests may reset the connection.
        let _ = stream.read_to_end(&mut answers);
        assert!(answers.starts_with(b"HTTP/1.1 200") && answers.len() < 5 << 20);
    }

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

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
