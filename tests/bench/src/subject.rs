//! The observer that is attached during a measurement.

use std::{ffi::OsString, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use crate::{Mode, command::Watcher, comparator::Comparator, ftrace::Ftrace};

/// An attached observer. Dropping the value detaches it.
pub(crate) enum BenchSubject {
    Nothing,
    Comparator(Comparator),
    Ftrace(Ftrace),
    Watcher(Watcher),
}

impl BenchSubject {
    /// Attaches the observer of a mode, and waits for it to settle.
    ///
    /// # Errors
    ///
    /// When it can't be attached.
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

    /// Number of exits counted since it was attached, or of events for the kernel's tracer; none if it does not count.
    ///
    /// # Errors
    ///
    /// When the counters can't be read.
    pub(crate) fn counted(&self) -> Result<Option<u64>> {
        match self {
            Self::Comparator(comparator) => comparator.counted(),
            Self::Ftrace(ftrace) => ftrace.counted().map(Some),
            Self::Nothing | Self::Watcher(_) => Ok(None),
        }
    }

    /// CPU time of a command's threads, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        match self {
            Self::Watcher(watcher) => watcher.cpu_ns(),
            Self::Nothing | Self::Comparator(_) | Self::Ftrace(_) => None,
        }
    }

    /// Checks that a command is running.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self {
            Self::Watcher(watcher) => watcher.ensure_running(),
            Self::Nothing | Self::Comparator(_) | Self::Ftrace(_) => Ok(()),
        }
    }
}
