//! What is attached while it is measured, whatever kind of thing it is.

use std::{ffi::OsString, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use crate::{Mode, command::Watcher, comparator::Comparator, ftrace::Ftrace};

/// A way to watch exits, which goes on while this lives.
pub(crate) enum BenchSubject {
    Nothing,
    Comparator(Comparator),
    Ftrace(Ftrace),
    Watcher(Watcher),
}

impl BenchSubject {
    /// Attaches it, and gives it time to settle.
    pub(crate) async fn start(mode: Mode, command: &[OsString], settle: Duration) -> Result<Self> {
        let subject = match mode {
            Mode::Nothing | Mode::Poll | Mode::Frame => Self::Nothing,
            Mode::Ftrace => Self::Ftrace(Ftrace::start()?),
            Mode::Command => Self::Watcher(Watcher::start(command).await?),
            mode => Self::Comparator(Comparator::start(mode)?),
        };
        sleep(settle).await;
        Ok(subject)
    }

    /// Exits that it has counted since it was attached, where that can be known; of the kernel's
    /// tracer, events.
    pub(crate) fn counted(&self) -> Result<Option<u64>> {
        match self {
            Self::Comparator(comparator) => comparator.counted(),
            Self::Ftrace(ftrace) => ftrace.counted().map(Some),
            Self::Nothing | Self::Watcher(_) => Ok(None),
        }
    }

    /// How long a command's own threads have run, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        match self {
            Self::Watcher(watcher) => watcher.cpu_ns(),
            Self::Nothing | Self::Comparator(_) | Self::Ftrace(_) => None,
        }
    }

    /// An error if it watches no more.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self {
            Self::Watcher(watcher) => watcher.ensure_running(),
            Self::Nothing | Self::Comparator(_) | Self::Ftrace(_) => Ok(()),
        }
    }
}
