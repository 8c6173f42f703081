//! Adds recordings to a directory, and lets go of the oldest when there is enough.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

use super::{Archive, Segment};
use crate::{measurement::Measurement, store::file};

/// A day has this many segments, if a day is kept: so much more than asked for is there at times.
const SEGMENTS: u32 = 24;
const SHORTEST_SEGMENT: Duration = Duration::from_secs(60);
const LONGEST_SEGMENT: Duration = Duration::from_secs(3600);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So much of what was recorded last; times at which nobody recorded do not count.
    pub retention: Duration,
    /// No more than so many bytes, whatever that leaves.
    pub bytes: u64,
}

impl Limits {
    fn segment(&self) -> Duration {
        (self.retention / SEGMENTS).clamp(SHORTEST_SEGMENT, LONGEST_SEGMENT)
    }

    fn segment_bytes(&self) -> u64 {
        self.bytes / u64::from(SEGMENTS)
    }
}

/// A directory that recordings are added to.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    limits: Limits,
    /// Those that nothing is added to any more, oldest first.
    closed: Vec<Closed>,
    current: Option<Current>,
    next_number: u64,
    // Whoever has it locked adds to the directory.
    _lock: File,
}

#[derive(Debug)]
struct Closed {
    path: PathBuf,
    bytes: u64,
    recorded: Duration,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    bytes: u64,
    recorded: Duration,
    /// When the last one began, and the latest end of all.
    last: SystemTime,
    end: SystemTime,
}

impl Recorder {
    /// Takes a directory, which is made if it is not there.
    ///
    /// # Errors
    /// It can't be made or read, or another recorder has it.
    pub fn open(directory: &Path, limits: Limits) -> io::Result<Self> {
        if !directory.exists() {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let lock = private(directory.join(".lock"), OpenOptions::new().write(true).create(true))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => {
                io::Error::new(io::ErrorKind::WouldBlock, "another vmexit records there")
            }
            error => error.into(),
        })?;
        let archive = Archive::open(directory)?;
        let next_number = archive.segments.last().map_or(1, |segment| segment.number + 1);
        let closed =
            archive.segments.iter().filter_map(|segment| Closed::of(segment, &limits)).collect();
        let mut recorder = Self {
            directory: directory.into(),
            limits,
            closed,
            current: None,
            next_number,
            _lock: lock,
        };
        recorder.make_room(0)?;
        Ok(recorder)
    }

    /// Adds a recording; it is on the disk when this returns.
    ///
    /// # Errors
    /// It can't be written, and what there is is as it was; or it is larger than all that is to be kept.
    pub fn write(&mut self, recording: &Measurement) -> io::Result<()> {
        let bytes = file::write(recording)?;
        let size = bytes.len() as u64;
        if size > self.limits.bytes {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("one interval takes {size} bytes, and all are to take less"),
            ));
        }
        let start = recording.start.unwrap_or_else(SystemTime::now);
        let ends = |current: &Current| {
            // Within a file the clock is not set back: what is in it is sought by when it began.
            current.is_full(size, &self.limits) || start < current.last
        };
        if self.current.as_ref().is_some_and(ends) {
            self.close();
        }
        self.make_room(size)?;
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin(start)?,
        };
        let length = Duration::from_nanos(recording.interval.length_ns());
        let end = start.checked_add(length).unwrap_or(start).max(current.end);
        match current.add(&bytes, end) {
            Ok(()) => {
                current.recorded += length;
                (current.last, current.end) = (start, end);
                self.current = Some(current);
                Ok(())
            }
            Err(error) => {
                // Without the part that was written, which nobody can read.
                let mended = current.file.set_len(current.bytes).is_ok();
                if current.bytes == 0 {
                    let _ = fs::remove_file(&current.path);
                } else {
                    self.current = Some(current);
                }
                if !mended {
                    self.close();
                }
                Err(error)
            }
        }
    }

    /// Where.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is added next begins a file of its own.
    pub fn close(&mut self) {
        if let Some(Current { path, bytes, recorded, file: _, last: _, end: _ }) =
            self.current.take()
        {
            self.closed.push(Closed { path, bytes, recorded });
        }
    }

    fn begin(&mut self, start: SystemTime) -> io::Result<Current> {
        let segment = Segment::new(&self.directory, self.next_number, start);
        let file = private(segment.path.clone(), OpenOptions::new().append(true).create_new(true))?;
        self.next_number += 1;
        let recorded = Duration::ZERO;
        Ok(Current { path: segment.path, file, bytes: 0, recorded, last: start, end: start })
    }

    /// Lets go of the oldest: of those that are older than is to be kept without them, and of as many as it
    /// takes for so many bytes more.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let current = self.current.as_ref();
        let mut recorded = current.map_or(Duration::ZERO, |current| current.recorded);
        let mut size = current.map_or(0, |current| current.bytes) + bytes;
        let mut kept = 0;
        for closed in self.closed.iter().rev() {
            size += closed.bytes;
            if recorded >= self.limits.retention || size > self.limits.bytes {
                break;
            }
            recorded += closed.recorded;
            kept += 1;
        }
        for old in self.closed.drain(..self.closed.len() - kept) {
            match fs::remove_file(&old.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Closed {
    /// `None` if it is gone. Its length is when it was last written less when it began, and never more than
    /// a segment's: a clock that was set tells nothing.
    fn of(segment: &Segment, limits: &Limits) -> Option<Self> {
        let metadata = fs::metadata(&segment.path).ok()?;
        let end = metadata.modified().unwrap_or(segment.start);
        let recorded = end.duration_since(segment.start).unwrap_or_default().min(limits.segment());
        Some(Self { path: segment.path.clone(), bytes: metadata.len(), recorded })
    }
}

impl Current {
    fn is_full(&self, more: u64, limits: &Limits) -> bool {
        self.recorded >= limits.segment() || self.bytes + more > limits.segment_bytes()
    }

    /// Adds what ends then, by the clock of its own time: so says the file, whatever it is by now.
    fn add(&mut self, bytes: &[u8], end: SystemTime) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.set_modified(end)?;
        self.file.sync_data()?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Names of VMs are for nobody else to read.
fn private(path: PathBuf, options: &mut OpenOptions) -> io::Result<File> {
    options.mode(0o600).open(path)
}
