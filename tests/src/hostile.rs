//! Hostile HTTP clients: connections that take a server's time and places, and are renewed when it closes them.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Time between two bytes of a slow client.
const PERIOD: Duration = Duration::from_secs(1);

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Says nothing.
    Silent,
    /// Sends one byte of a request each second.
    Slow,
    /// Sends many requests at once and never reads.
    Deaf,
    /// Sends a part of a request and closes its side.
    HalfClosed,
}

impl Manner {
    const ALL: [Self; 4] = [Self::Silent, Self::Slow, Self::Deaf, Self::HalfClosed];

    fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, PERIOD)?;
        stream.set_nonblocking(true)?;
        match self {
            Self::Silent => {}
            Self::Slow => stream.write_all(b"GET /metrics HTTP/1.1\r\nX-")?,
            Self::Deaf => {
                stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100))?;
            }
            Self::HalfClosed => {
                stream.write_all(b"GET /")?;
                stream.shutdown(Shutdown::Write)?;
            }
        }
        Ok(stream)
    }

    /// Does what is due, and returns whether the server has closed the connection.
    fn is_closed(self, stream: &mut TcpStream) -> bool {
        let would_block = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        match self {
            Self::Slow => stream.write_all(b"a").is_err_and(|error| !would_block(error)),
            Self::Deaf => stream.take_error().ok().flatten().is_some(),
            Self::Silent | Self::HalfClosed => match stream.read(&mut [0]) {
                Ok(read) => read == 0,
                Err(error) => !would_block(error),
            },
        }
    }
}

/// A number of hostile connections, kept up by a thread until the value is dropped.
pub struct HostileClients {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl HostileClients {
    /// Opens this many connections to a server, in equal parts silent, slow, deaf and half closed.
    pub fn start(address: SocketAddr, number: usize) -> Self {
        let ends = Arc::<AtomicBool>::default();
        let thread = thread::spawn({
            let ends = ends.clone();
            move || keep_up(address, number, &ends)
        });
        Self { ends, thread: Some(thread) }
    }

    /// Closes all connections and returns how many were opened.
    pub fn end(mut self) -> u64 {
        self.join()
    }

    fn join(&mut self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for HostileClients {
    fn drop(&mut self) {
        self.join();
    }
}

fn keep_up(address: SocketAddr, number: usize, ends: &AtomicBool) -> u64 {
    let mut clients: Vec<(Manner, Option<TcpStream>)> =
        Manner::ALL.into_iter().cycle().take(number).map(|manner| (manner, None)).collect();
    let mut opened = 0;
    while !ends.load(Ordering::Relaxed) {
        let round = Instant::now();
        for (manner, stream) in &mut clients {
            if stream.as_mut().is_none_or(|stream| manner.is_closed(stream)) {
                *stream = manner.connect(address).ok();
                opened += 1;
            }
        }
        sleep(PERIOD.saturating_sub(round.elapsed()));
    }
    opened
}
