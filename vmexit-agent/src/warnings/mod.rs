//! The log: lines on standard error, or messages held in memory while a screen is open.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use env_logger::{Builder, Env, Logger};
use log::{Level, Log, Metadata, Record};

/// Maximum size of all held messages, bytes; later messages are dropped.
const MAX_BYTES: usize = 64 << 10;

/// env_logger, which filters all messages and writes to standard error.
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
        Self { level, target, text: record.args().to_string() }
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
        let Some(logger) = STDERR.get().filter(|logger| logger.matches(record)) else { return };
        // Formatted before the lock is taken: formatting may panic, and the panic hook takes the lock too.
        let message = LogMessage::of(record);
        match held().as_mut() {
            Some(held) => held.push(message),
            None => message.write(logger),
        }
    }

    fn flush(&self) {
        if let Some(logger) = STDERR.get() {
            logger.flush();
        }
    }
}

/// Starts the log, at the level that `RUST_LOG` names; warnings by default.
pub fn init() {
    let level = stderr_logger().filter();
    if log::set_logger(&HoldingLogger).is_ok() {
        log::set_max_level(level);
    }
}

fn stderr_logger() -> &'static Logger {
    STDERR.get_or_init(|| {
        let env = Env::default().default_filter_or("warn");
        Builder::from_env(env).format_timestamp(None).build()
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
            warn("", "flood");
        }
        let bytes =
            |held: &HeldMessages| held.messages.iter().map(LogMessage::bytes).sum::<usize>();
        assert!(held().as_ref().is_some_and(|held| bytes(held) <= MAX_BYTES));
        assert_eq!(latest().as_deref(), Some("flood"));
        *held() = None;
    }
}
