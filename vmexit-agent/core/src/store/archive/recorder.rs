//! Recorder: appends recordings to a directory, and deletes the oldest ones beyond the limits.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

use super::{Archive, Segment};
use crate::{
    measurement::Measurement,
    store::{file, place::Directory},
};

/// Segments within the retention period. The oldest segment is deleted as a whole, so up to one
/// segment more than requested is kept.
const SEGMENTS: u32 = 24;
const SHORTEST_SEGMENT: Duration = Duration::from_secs(60);
const LONGEST_SEGMENT: Duration = Duration::from_secs(3600);
/// Highest number of a file after which a recorder begins another one.
const LAST_NUMBER: u64 = 1 << 62;

/// Limits of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Recorded time that is kept; gaps between recordings do not count.
    pub retention: Duration,
    /// Maximum size, bytes; takes precedence over the retention.
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

/// A directory to which recordings are appended.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    place: Directory,
    limits: Limits,
    /// Complete segments, oldest first.
    closed: Vec<Closed>,
    current: Option<Current>,
    next_number: u64,
    // Held while recording: one recorder per directory.
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
    /// Start of the latest recording.
    last: SystemTime,
    /// Latest end of all recordings.
    end: SystemTime,
}

impl Recorder {
    /// Opens a directory for recording; creates it if missing.
    ///
    /// # Errors
    /// The directory can't be created, listed or written to, or another recorder has it open
    /// (`WouldBlock`).
    pub fn open(directory: &Path, limits: Limits) -> io::Result<Self> {
        let place = Directory::open_private(directory)?;
        let lock = place.open_file(".lock".as_ref(), false)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another vmexit is recording to this directory",
            ),
            error => error.into(),
        })?;
        let archive = Archive::open(directory)?;
        let last = archive.segments.last().map_or(0, |segment| segment.number);
        if last > LAST_NUMBER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("file number {last} leaves none for later files: move that file away"),
            ));
        }
        let next_number = last + 1;
        let closed =
            archive.segments.iter().filter_map(|segment| Closed::of(segment, &limits)).collect();
        let mut recorder = Self {
            directory: directory.into(),
            place,
            limits,
            closed,
            current: None,
            next_number,
            _lock: lock,
        };
        recorder.make_room(0)?;
        Ok(recorder)
    }

    /// Appends a recording and flushes it to disk.
    ///
    /// # Errors
    /// The recording is larger than the archive may be, or can't be written. It is then left out as
    /// a whole.
    pub fn write(&mut self, recording: &Measurement) -> io::Result<()> {
        let bytes = file::write(recording)?;
        let size = bytes.len() as u64;
        if size > self.limits.bytes {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "one interval takes {size} bytes, more than the limit of {}",
                    self.limits.bytes
                ),
            ));
        }
        let start = recording.start.unwrap_or_else(SystemTime::now);
        let ends = |current: &Current| {
            // Start times within a file must increase, as they are used to find recordings.
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
                // The incomplete recording is cut off.
                let restored = current.file.set_len(current.bytes).is_ok();
                if current.bytes == 0 {
                    let _ = self.place.remove(current.path.file_name().unwrap_or_default());
                } else {
                    self.current = Some(current);
                }
                if !restored {
                    self.close();
                }
                Err(error)
            }
        }
    }

    /// Directory of the archive.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends the current segment: the next recording starts a new file.
    pub fn close(&mut self) {
        if let Some(Current { path, bytes, recorded, file: _, last: _, end: _ }) =
            self.current.take()
        {
            self.closed.push(Closed { path, bytes, recorded });
        }
    }

    fn begin(&mut self, start: SystemTime) -> io::Result<Current> {
        // A name may be taken by something that is no segment, such as a link.
        const MOST_TRIES: u32 = 1_000;
        let mut tries = 0;
        let (segment, file) = loop {
            let segment = Segment::new(&self.directory, self.next_number, start);
            let opened = self.place.open_file(segment.to_string().as_ref(), true);
            tries += 1;
            match opened {
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && tries < MOST_TRIES =>
                {
                    self.next_number += 1;
                }
                opened => break (segment, opened?),
            }
        };
        self.next_number += 1;
        let recorded = Duration::ZERO;
        Ok(Current { path: segment.path, file, bytes: 0, recorded, last: start, end: start })
    }

    /// Deletes the oldest segments: those beyond the retention, and as many as needed for `bytes`
    /// more.
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
            self.place.remove(old.path.file_name().unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Closed {
    /// A segment found on disk; `None` if it is gone. Its length is the modification time minus the
    /// start, at most that of a full segment, as the clock may have been set.
    fn of(segment: &Segment, limits: &Limits) -> Option<Self> {
        let metadata = fs::symlink_metadata(&segment.path).ok()?;
        let end = metadata.modified().unwrap_or(segment.start);
        let recorded = end.duration_since(segment.start).unwrap_or_default().min(limits.segment());
        Some(Self { path: segment.path.clone(), bytes: metadata.len(), recorded })
    }
}

impl Current {
    fn is_full(&self, more: u64, limits: &Limits) -> bool {
        self.recorded >= limits.segment() || self.bytes + more > limits.segment_bytes()
    }

    /// Appends a recording that ended at `end`, which becomes the file's modification time whatever
    /// the present time is.
    fn add(&mut self, bytes: &[u8], end: SystemTime) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.set_modified(end)?;
        self.file.sync_data()?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
