//! Intervals on their way to the disk. A thread of its own writes them, and whatever comes while it can't, or
//! while the disk takes its time, becomes one longer interval with the next: nothing is lost but detail.

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

/// Takes a directory, before anything is traced.
pub(crate) fn open(directory: &Path, limits: Limits) -> Result<Recorder, Error> {
    let failed = |source| Error::Output { path: directory.into(), source };
    Recorder::open(directory, limits).map_err(failed)
}

/// How long the last interval may take to be written when all else has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory that intervals are written to.
pub(super) struct BackgroundWriter {
    shared: Arc<Shared>,
    directory: PathBuf,
    /// Gets what the last attempt to write came to.
    ended: oneshot::Receiver<io::Result<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<WriterState>,
    changed: Condvar,
}

#[derive(Default)]
struct WriterState {
    /// Not written yet.
    waiting: MeasurementSum,
    /// Whether something of that has not been tried yet.
    fresh: bool,
    /// The next file is to be a new one.
    anew: bool,
    ends: bool,
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
    /// Adds to a directory from now on.
    pub(super) fn start(recorder: Recorder) -> Result<Self, Error> {
        let directory = recorder.directory().to_owned();
        let shared = Arc::<Shared>::default();
        let (end, ended) = oneshot::channel();
        let writer = WriterThread { shared: shared.clone(), recorder, fails: false };
        thread::Builder::new()
            .name("recorder".into())
            .spawn(move || end.send(writer.run()))
            .map_err(|source| Error::Output { path: directory.clone(), source })?;
        Ok(Self { shared, directory, ended })
    }

    /// Has an interval written.
    pub(super) fn add(&self, measurement: Measurement) {
        self.shared.change(|state| {
            state.fresh = true;
            add(&mut state.waiting, measurement);
        });
    }

    /// Lets the next interval begin a file of its own.
    pub(super) fn begin_file(&self) {
        self.shared.change(|state| state.anew = true);
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) -> Result<(), Error> {
        self.shared.change(|state| state.ends = true);
        let result = match tokio::time::timeout(PATIENCE, self.ended).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(io::Error::other("the writer is gone")),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        result.map_err(|source| Error::Output { path: self.directory, source })
    }
}

struct WriterThread {
    shared: Arc<Shared>,
    recorder: Recorder,
    /// Whether the last attempt failed: it is said once.
    fails: bool,
}

impl WriterThread {
    /// Writes until all ends; what the last attempt came to.
    fn run(mut self) -> io::Result<()> {
        loop {
            let mut state = self.shared.state();
            while !(state.fresh || state.anew || state.ends) {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let (waiting, ends) = (std::mem::take(&mut state.waiting), state.ends);
            state.fresh = false;
            if std::mem::take(&mut state.anew) {
                self.recorder.close();
            }
            drop(state);
            let result = self.write(waiting);
            if ends {
                return result;
            }
        }
    }

    fn write(&mut self, waiting: MeasurementSum) -> io::Result<()> {
        let Some(measurement) = waiting.get() else { return Ok(()) };
        let result = self.recorder.write(measurement);
        match &result {
            Ok(()) if self.fails => log::warn!("recording goes on, and nothing is missing"),
            Err(error) if !self.fails => log::warn!(
                "{} can't be written: {error}; it is tried again with each interval",
                escape::path(self.recorder.directory())
            ),
            _ => {}
        }
        self.fails = result.is_err();
        if self.fails {
            self.put_back(waiting);
        }
        result
    }

    /// Before what has come meanwhile.
    fn put_back(&self, waiting: MeasurementSum) {
        let mut state = self.shared.state();
        let later = std::mem::replace(&mut state.waiting, waiting);
        later.finish().into_iter().for_each(|later| add(&mut state.waiting, later));
    }
}

fn add(waiting: &mut MeasurementSum, measurement: Measurement) {
    if let Err(what) = waiting.add(measurement) {
        log::warn!("dropped one interval: merged with the pending ones, {what}");
    }
}
