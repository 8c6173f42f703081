//! The log: lines on standard error, or messages held in memory while a screen is open. Their number is limited, and
//! nothing waits for standard error.

mod limit;
mod writer;

use std::{
    fmt::Display,
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use env_logger::{Builder, Env, Logger, Target};
use log::{Level, Log, Metadata, Record};
use vmexit_core::escape;

use self::{
    limit::{Admission, Limiter, MessageKind},
    writer::Queue,
};

/// Maximum size of all held messages, bytes; later messages are dropped.
const MAX_BYTES: usize = 64 << 10;

/// Maximum width of a message, columns. Only debug messages are longer.
const WIDEST: usize = 1_000;

/// Longest wait for standard error at the end of the process.
const FLUSH_TIME: Duration = Duration::from_millis(500);

/// Lines for standard error.
static QUEUE: Queue = Queue::new();

/// Limits on messages, but for debug messages: who asks for those wants all of them.
static LIMITER: Mutex<Limiter<LogMessage>> = Mutex::new(Limiter::new());

/// env_logger, which filters all messages and formats lines for [`QUEUE`].
static STDERR: OnceLock<Logger> = OnceLock::new();

/// Messages held back; `None` while no screen is open.
static HELD: Mutex<Option<HeldMessages>> = Mutex::new(None);

/// Messages logged while a screen is open.
#[derive(Default)]
struct HeldMessages {
    messages: Vec<LogMessage>,
    /// Memory of all messages, bytes.
    bytes: usize,
    /// Number of messages that [`latest`] has returned or skipped.
    seen: usize,
}

/// Level, target and text of a log record.
struct LogMessage {
    level: Level,
    target: String,
    text: String,
}

impl LogMessage {
    fn of(record: &Record<'_>) -> Self {
        let (level, target) = (record.level(), record.target().to_owned());
        let text = record.args().to_string();
        let text = if is_limited(level) { escape::cut(&text, WIDEST) } else { text };
        Self { level, target, text }
    }

    /// Adds the number of messages of the same kind that were left out.
    fn with_left_out(mut self, left_out: u64) -> Self {
        if left_out > 0 {
            self.text += &format!(" ({left_out} more of this kind were left out)");
        }
        self
    }

    /// Holds the message back while a screen is open, else writes it.
    fn deliver(self) {
        match held().as_mut() {
            Some(held) => held.push(self),
            None => self.write(stderr_logger()),
        }
    }

    fn write(&self, logger: &Logger) {
        let mut record = Record::builder();
        record.level(self.level).target(&self.target);
        logger.log(&record.args(format_args!("{}", self.text)).build());
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.target.len() + self.text.len()
    }
}

impl HeldMessages {
    fn push(&mut self, message: LogMessage) {
        if self.bytes + message.bytes() <= MAX_BYTES {
            self.bytes += message.bytes();
            self.messages.push(message);
        }
    }
}

/// The logger of this process.
struct HoldingLogger;

impl Log for HoldingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        STDERR.get().is_some_and(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if !STDERR.get().is_some_and(|logger| logger.matches(record)) {
            return;
        }
        // Messages are formatted while no lock is held: formatting may panic, and the panic hook takes locks too.
        if !is_limited(record.level()) {
            return LogMessage::of(record).deliver();
        }
        let kind = MessageKind::of(record);
        let verdict = limiter().admit(kind, Instant::now());
        match verdict {
            Admission::Write(left_out) => LogMessage::of(record).with_left_out(left_out).deliver(),
            Admission::Keep => {
                let message = LogMessage::of(record);
                limiter().keep(kind, message);
                QUEUE.start(write_due);
            }
            Admission::LeaveOut => {}
        }
    }

    fn flush(&self) {
        QUEUE.flush(FLUSH_TIME);
    }
}

/// Keeps the log open. Dropping it, at the end of the process, writes what is left, if standard error is read.
#[derive(Debug)]
#[must_use]
pub struct OpenLog(());

impl Drop for OpenLog {
    fn drop(&mut self) {
        let rest = limiter().rest();
        write_all(rest);
        QUEUE.flush(FLUSH_TIME);
    }
}

/// Starts the log, at the level that `RUST_LOG` names; warnings by default.
pub fn init() -> OpenLog {
    let level = stderr_logger().filter();
    if log::set_logger(&HoldingLogger).is_ok() {
        log::set_max_level(level);
    }
    OpenLog(())
}

/// Writes a line of the program to standard error, without waiting for it.
pub fn say(line: impl Display) {
    push(format!("vmexit: {line}\n").into());
}

/// Whether the number and the width of messages of a level are limited.
fn is_limited(level: Level) -> bool {
    level <= Level::Info
}

/// Writes the messages that were kept back and may be written now.
fn write_due() {
    let due = limiter().due(Instant::now());
    write_all(due);
}

fn write_all(messages: Vec<(LogMessage, u64)>) {
    messages.into_iter().for_each(|(message, left_out)| message.with_left_out(left_out).deliver());
}

fn push(line: Vec<u8>) {
    QUEUE.push(line);
    QUEUE.start(write_due);
}

/// Passes env_logger's lines, one at a time, to the queue.
struct QueuedLines;

impl io::Write for QueuedLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        push(line.to_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stderr_logger() -> &'static Logger {
    STDERR.get_or_init(|| {
        let env = Env::default().default_filter_or("warn");
        let lines = Target::Pipe(Box::new(QueuedLines));
        Builder::from_env(env).format_timestamp(None).target(lines).build()
    })
}

/// Holds messages back until [`release`].
pub(crate) fn hold() {
    held().get_or_insert_default();
}

/// Writes the held messages, and from now on each message as it comes.
pub(crate) fn release() {
    if let Some(held) = held().take() {
        held.messages.iter().for_each(|message| message.write(stderr_logger()));
    }
}

/// Text of the last message held since the previous call.
pub(crate) fn latest() -> Option<String> {
    let mut held = held();
    let held = held.as_mut()?;
    let new = held.messages.get(held.seen..)?;
    let text = new.last().map(|message| message.text.clone());
    held.seen = held.messages.len();
    text
}

fn held() -> MutexGuard<'static, Option<HeldMessages>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn limiter() -> MutexGuard<'static, Limiter<LogMessage>> {
    LIMITER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warn(target: &str, text: &str) {
        let mut record = Record::builder();
        record.level(Level::Warn).target(target);
        HoldingLogger.log(&record.args(format_args!("{text}")).build());
    }

    #[test]
    fn held_messages_are_returned_once_and_bounded() {
        stderr_logger();
        assert_eq!(latest(), None);
        hold();
        warn("vmexit::monitor", "no answer");
        warn("", "a [b] c");
        assert_eq!(latest().as_deref(), Some("a [b] c"));
        assert_eq!(latest(), None, "once is enough");
        for _ in 0..MAX_BYTES {
            let (level, target) = (Level::Warn, String::new());
            LogMessage { level, target, text: "flood".into() }.deliver();
        }
        let bytes =
            |held: &HeldMessages| held.messages.iter().map(LogMessage::bytes).sum::<usize>();
        assert!(held().as_ref().is_some_and(|held| bytes(held) <= MAX_BYTES));
        assert_eq!(latest().as_deref(), Some("flood"));
        *held() = Some(HeldMessages::default());

        // Of one line of the source, the first messages are held.
        for number in 0..1_000 {
            warn("vmexit::flood", &format!("flood {number}\u{1b}[31m"));
        }
        let texts = held().take().map(|held| held.messages);
        let texts: Vec<_> = texts.into_iter().flatten().map(|message| message.text).collect();
        assert_eq!(texts.len(), limit::BURST as usize);
        assert_eq!(texts.first().map(String::as_str), Some("flood 0\\u{1b}[31m"));
        hold();
        let kept = limiter().rest();
        write_all(kept);
        let latest = latest().unwrap();
        assert!(latest.ends_with(" (979 more of this kind were left out)"), "{latest}");
        *held() = None;
    }
}
