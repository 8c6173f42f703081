//! Standard error, written by a thread of its own: a pipe that nobody reads, or a stopped terminal, makes no other
//! thread wait. `O_NONBLOCK` would be no way, as it also concerns the other processes that share the open file.

use std::{
    collections::VecDeque,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use caps::CapSet;
use rustix::io::Errno;

/// Maximum size of all lines that wait to be written, bytes. A single line may be longer.
const MAX_BYTES: usize = 256 << 10;
/// Pause where another process has made the open file non-blocking, and it is full.
const PAUSE: Duration = Duration::from_millis(20);
/// Time between two calls of the thread's `idle`.
const IDLE_TIME: Duration = Duration::from_secs(2);

/// Lines that wait to be written.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    lines: VecDeque<Vec<u8>>,
    /// Size of all lines.
    bytes: usize,
    /// Number of lines that did not fit.
    dropped: u64,
    /// Whether the thread is writing a line.
    writing: bool,
    /// Whether the thread was started.
    started: bool,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let state = QueueState {
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            writing: false,
            started: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or counts it as dropped if there is no room.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if state.lines.is_empty() || state.bytes + line.len() <= MAX_BYTES {
            state.bytes += line.len();
            state.lines.push_back(line);
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Starts the thread that writes to standard error and calls `idle` now and then. Does nothing if it runs already;
    /// if it can't be started, the next call tries again.
    pub(super) fn start(&'static self, idle: fn()) {
        let mut state = self.state();
        if !state.started {
            let run = move || {
                drop_capabilities();
                self.run(write_stderr, idle);
            };
            state.started = thread::Builder::new().name("log".into()).spawn(run).is_ok();
        }
    }

    /// Waits until all lines are written, at most for `patience`. Returns whether they are.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        if !state.started {
            // The last resort where no thread can be started.
            state.lines.drain(..).for_each(|line| write_stderr(&line));
            return true;
        }
        while !state.is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Writes lines without an end.
    fn run(&self, write: impl Fn(&[u8]), idle: impl Fn()) {
        loop {
            let mut state = self.state();
            state.writing = false;
            self.changed.notify_all();
            let line = match state.next() {
                Some(line) => line,
                None => {
                    let waited = self.changed.wait_timeout(state, IDLE_TIME);
                    if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
                        idle();
                    }
                    continue;
                }
            };
            state.writing = true;
            drop(state);
            write(&line);
        }
    }
}

impl QueueState {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.writing
    }

    /// Next line to write: those that wait, then the number of those that did not fit.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
            return Some(line);
        }
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| {
            format!("vmexit: {dropped} messages were left out: standard error was not read\n")
                .into()
        })
    }
}

/// Drops all capabilities of this thread, which may be older than the service's own drop. Writing needs none.
fn drop_capabilities() {
    // The bounding set needs a capability itself, and stays without it.
    for set in [
        CapSet::Bounding,
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        let _ = caps::clear(None, set);
    }
}

/// Writes to standard error without Rust's lock of it, which others may need while this call blocks. A standard error
/// that is closed loses the line.
fn write_stderr(mut line: &[u8]) {
    while !line.is_empty() {
        match rustix::io::write(io::stderr(), line) {
            Ok(length) => line = line.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn push_to_pipe_that_nobody_reads_never_waits_and_is_bounded() {
        const LINES: usize = 100_000;
        let (mut reader, writer) = io::pipe().unwrap();
        let queue: &Queue = Box::leak(Box::new(Queue::new()));
        queue.state().started = true;
        thread::spawn(|| queue.run(move |line| (&writer).write_all(line).unwrap(), || {}));
        let begun = Instant::now();
        for number in 0..LINES {
            queue.push(format!("line {number} of a flood of them\n").into());
        }
        assert!(!queue.flush(Duration::from_millis(50)));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(queue.state().bytes <= MAX_BYTES);
        let (dropped, mut text) = (queue.state().dropped, Vec::new());
        assert!(dropped > 0);
        while !text.ends_with(b"was not read\n") {
            let mut piece = [0; 4096];
            let length = reader.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..length]);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("\nvmexit: {dropped} messages were left out")), "{dropped}");
        assert_eq!(text.lines().count() as u64, LINES as u64 - dropped + 1);
        assert!(queue.flush(Duration::from_secs(5)));
    }

    #[test]
    fn flush_of_empty_queue_returns_at_once() {
        let queue = Queue::new();
        assert!(queue.flush(Duration::from_secs(60)));
    }
}
