//! Background writer of recordings. A thread writes the intervals; those that arrive while it is busy, or after a failed
//! write, are merged into one longer interval, so no count is lost.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;
use vmexit_core::{
    escape,
    measurement::Measurement,
    store::{
        MeasurementSum,
        archive::{Limits, Recorder},
    },
};

use crate::error::Error;

/// Opens a directory for recording.
///
/// # Errors
/// The directory can't be created or written, or another process records to it.
pub(crate) fn open(directory: &Path, limits: Limits) -> Result<Recorder, Error> {
    let failed = |source| Error::Output { path: directory.into(), source };
    Recorder::open(directory, limits).map_err(failed)
}

/// Time limit for writing the last interval.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Handle of the thread that writes intervals to a directory.
pub(super) struct BackgroundWriter {
    shared: Arc<Shared>,
    directory: PathBuf,
    /// Receives the result of the last write.
    ended: oneshot::Receiver<io::Result<()>>,
}

/// State shared with the thread.
#[derive(Default)]
struct Shared {
    state: Mutex<WriterState>,
    changed: Condvar,
}

/// Work of the thread.
#[derive(Default)]
struct WriterState {
    /// Intervals to write, merged into one.
    waiting: MeasurementSum,
    /// Whether `waiting` has an interval that no write was tried with.
    has_new: bool,
    /// Whether the next interval begins a file.
    new_file: bool,
    /// Whether the thread ends after the next write.
    stop: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, WriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut WriterState)) {
        change(&mut self.state());
        self.changed.notify_one();
    }
}

impl BackgroundWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(super) fn start(recorder: Recorder) -> Result<Self, Error> {
        let directory = recorder.directory().to_owned();
        let shared = Arc::<Shared>::default();
        let (end, ended) = oneshot::channel();
        let writer = WriterThread { shared: shared.clone(), recorder, failing: false, dropped: 0 };
        thread::Builder::new()
            .name("recorder".into())
            .spawn(move || end.send(writer.run()))
            .map_err(|source| Error::Output { path: directory.clone(), source })?;
        Ok(Self { shared, directory, ended })
    }

    /// Queues an interval.
    pub(super) fn add(&self, measurement: Measurement) {
        self.shared.change(|state| {
            state.has_new = true;
            add(&mut state.waiting, measurement);
        });
    }

    /// Begins a new file with the next interval.
    pub(super) fn begin_file(&self) {
        self.shared.change(|state| state.new_file = true);
    }

    /// Waits until all intervals are written.
    ///
    /// # Errors
    /// The last write fails or takes too long.
    pub(super) async fn finish(self) -> Result<(), Error> {
        self.shared.change(|state| state.stop = true);
        let result = match tokio::time::timeout(FINISH_TIMEOUT, self.ended).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(io::Error::other("the writer thread has ended")),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        result.map_err(|source| Error::Output { path: self.directory, source })
    }
}

/// The thread and its recorder.
struct WriterThread {
    shared: Arc<Shared>,
    recorder: Recorder,
    /// Whether the last write failed. Only the first of several failures is logged.
    failing: bool,
    /// Intervals that could never be written.
    dropped: u64,
}

/// Whether an error is of the interval and not of the disk: it stays however often it is tried.
fn can_never_be_written(error: &io::Error) -> bool {
    // Errors of system calls have a number.
    error.raw_os_error().is_none()
        && matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge)
}

impl WriterThread {
    /// Writes until it is stopped; returns the result of the last write.
    fn run(mut self) -> io::Result<()> {
        loop {
            let mut state = self.shared.state();
            while !(state.has_new || state.new_file || state.stop) {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let (waiting, stop) = (std::mem::take(&mut state.waiting), state.stop);
            state.has_new = false;
            if std::mem::take(&mut state.new_file) {
                self.recorder.close();
            }
            drop(state);
            let result = self.write(waiting);
            if stop {
                return result;
            }
        }
    }

    fn write(&mut self, waiting: MeasurementSum) -> io::Result<()> {
        let Some(measurement) = waiting.get() else { return Ok(()) };
        let result = self.recorder.write(measurement);
        if let Err(error) = &result
            && can_never_be_written(error)
        {
            self.dropped += 1;
            // Each second power only: a VM may cause it in every interval.
            if self.dropped.is_power_of_two() {
                log::warn!(
                    "an interval of {} s was dropped, as it can't be recorded: {}; dropped so far: {}",
                    measurement.interval.length_ns() / 1_000_000_000,
                    escape::safe(&error.to_string()),
                    self.dropped
                );
            }
            return Ok(());
        }
        match &result {
            Ok(()) if self.failing => log::warn!("recording again; no count is missing"),
            Err(error) if !self.failing => log::warn!(
                "{} can't be written: {error}; trying again with each interval",
                escape::path(self.recorder.directory())
            ),
            _ => {}
        }
        self.failing = result.is_err();
        if self.failing {
            self.requeue(waiting);
        }
        result
    }

    /// Puts an interval back, before those that were queued since.
    fn requeue(&self, waiting: MeasurementSum) {
        let mut state = self.shared.state();
        let later = std::mem::replace(&mut state.waiting, waiting);
        later.finish().into_iter().for_each(|later| add(&mut state.waiting, later));
    }
}

fn add(waiting: &mut MeasurementSum, measurement: Measurement) {
    if let Err(what) = waiting.add(measurement) {
        log::warn!("one interval was dropped, as it can't be merged with the pending ones: {what}");
    }
}
