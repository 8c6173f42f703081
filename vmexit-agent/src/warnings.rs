//! Where warnings go: standard error, or a list while a screen would be spoilt by them.

use std::{
    io::{self, Write, stderr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use env_logger::{Builder, Env, Target};

/// Bytes that are kept while a screen is open; what comes after them is dropped.
const MOST: usize = 64 << 10;

static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// What came while a screen was open.
#[derive(Default)]
struct Held {
    lines: Vec<u8>,
    /// Bytes of it that were taken note of.
    told: usize,
}

/// Begins to log, at the level that `RUST_LOG` says.
pub fn init() {
    Builder::from_env(Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .target(Target::Pipe(Box::new(Stderr)))
        .init();
}

/// Keeps warnings from standard error until [`release`].
pub(crate) fn hold() {
    held().get_or_insert_default();
}

/// Lets warnings out again, those first that were held.
pub(crate) fn release() {
    if let Some(held) = held().take() {
        // Nobody can be told that nobody can be told.
        let _ = stderr().write_all(&held.lines);
    }
}

/// The last of the warnings that came since this was asked before.
pub(crate) fn latest() -> Option<String> {
    let mut held = held();
    let held = held.as_mut()?;
    let new = String::from_utf8_lossy(held.lines.get(held.told..)?).into_owned();
    held.told = held.lines.len();
    let line = new.lines().last()?;
    // Behind level and module.
    Some(line.split_once("] ").map_or(line, |(_, says)| says).to_owned())
}

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error, unless warnings are held.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            Some(held) if held.lines.len() + bytes.len() <= MOST => {
                held.lines.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Some(_) => Ok(bytes.len()),
            None => stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_can_be_shown_and_is_bounded() {
        assert_eq!(latest(), None);
        hold();
        for line in ["[WARN  vmexit::monitor] no answer\n", "[WARN ] a [b] c\n"] {
            Stderr.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(latest().as_deref(), Some("a [b] c"));
        assert_eq!(latest(), None, "once is enough");
        for _ in 0..MOST {
            Stderr.write_all(b"[WARN ] flood\n").unwrap();
        }
        assert!(held().as_ref().unwrap().lines.len() <= MOST);
        assert_eq!(latest().as_deref(), Some("flood"));
        *held() = None;
    }
}
