//! Archives: directories of consecutive recordings, written by `vmexit record`. Each file is a
//! segment. Recordings are appended, so a writer that is killed damages only the last one.

mod recorder;

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{Mode, OFlags, open};

pub use self::recorder::{Limits, Recorder};
use super::file::{FileError, Members};
use crate::measurement::Measurement;

/// File name extension of segments.
const EXTENSION: &str = "vmexit";

/// Segments of a directory, oldest first.
#[derive(Debug)]
pub struct Archive {
    segments: Vec<Segment>,
}

/// One file. Segments are numbered because clocks may be set back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    path: PathBuf,
    number: u64,
    start: SystemTime,
}

/// A period of time; `None` means unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Start.
    pub since: Option<SystemTime>,
    /// End, exclusive.
    pub until: Option<SystemTime>,
}

impl Period {
    /// Whether a recording with this start and length overlaps the period.
    fn overlaps(&self, start: SystemTime, length: Duration) -> bool {
        let end = start.checked_add(length).unwrap_or(start);
        self.since.is_none_or(|since| end > since) && self.until.is_none_or(|until| start < until)
    }
}

/// Recordings of a period from a file or from a directory of files, in the order in which they were
/// made.
///
/// # Errors
/// The file or directory can't be opened.
pub fn recordings(
    path: &Path,
    period: Period,
) -> io::Result<Box<dyn Iterator<Item = FoundRecording>>> {
    if path.is_dir() {
        return Ok(Box::new(Archive::open(path)?.recordings(period)));
    }
    let file = path.to_owned();
    let members = Members::of(BufReader::new(File::open(path)?));
    let found = members.map(move |member| member.map_err(|error| (file.clone(), error)));
    Ok(Box::new(found.filter(move |found| is_wanted(found, period))))
}

/// A recording, or the file and the error that ended it.
pub type FoundRecording = Result<Measurement, (PathBuf, FileError)>;

/// Whether a recording is in the period; errors always are.
fn is_wanted(found: &FoundRecording, period: Period) -> bool {
    found.as_ref().map_or(true, |recording| recording.is_in(period))
}

impl Archive {
    /// Lists the segments of a directory.
    ///
    /// # Errors
    /// The directory can't be listed.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // Links, FIFOs and directories are no segments, whatever their names are.
            if entry.file_type()?.is_file() {
                segments.extend(Segment::of(&entry.path()));
            }
        }
        segments.sort_by_key(|segment| segment.number);
        Ok(Self { segments })
    }

    /// Recordings of a period, in the order in which they were made. A file that can't be read to
    /// its end yields its readable recordings, then an error; the next file follows.
    pub fn recordings(&self, period: Period) -> impl Iterator<Item = FoundRecording> + use<> {
        let nexts = self.segments.iter().skip(1).cloned().map(Some).chain([None]);
        let segments: Vec<_> = self.segments.clone().into_iter().zip(nexts).collect();
        let may_have = move |(segment, next): &(Segment, Option<Segment>)| {
            let ended = |since| next.as_ref().is_some_and(|next| segment.end(next) <= since);
            let begins = period.until.is_none_or(|until| segment.start < until);
            begins && !period.since.is_some_and(ended)
        };
        segments
            .into_iter()
            .filter(may_have)
            .flat_map(|(segment, _)| segment.recordings())
            .filter(move |found| is_wanted(found, period))
    }
}

impl Measurement {
    /// Whether the recording overlaps the period. A recording of unknown time is only in an
    /// unbounded period.
    fn is_in(&self, period: Period) -> bool {
        let Some(start) = self.start else { return period == Period::default() };
        period.overlaps(start, Duration::from_nanos(self.interval.length_ns()))
    }
}

impl Segment {
    /// The segment of a path; `None` if the file name is not a segment's.
    fn of(path: &Path) -> Option<Self> {
        if path.extension()? != EXTENSION {
            return None;
        }
        let (number, time) = path.file_stem()?.to_str()?.split_once('-')?;
        let digits = time.strip_suffix('Z')?.replace('T', "");
        if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| &digits[from..to];
        let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
        let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
        let time = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
        Some(Self {
            path: path.into(),
            number: number.parse().ok()?,
            start: humantime::parse_rfc3339(&time).ok()?,
        })
    }

    /// The segment that starts now.
    fn new(directory: &Path, number: u64, start: SystemTime) -> Self {
        let mut segment = Self { path: PathBuf::new(), number, start };
        segment.path = directory.join(segment.to_string());
        segment
    }

    /// Upper bound of the end of its recordings: the start of the next segment, or the file's
    /// modification time, which the recorder sets, if the clock was set back in between. The
    /// modification time of a copy may be later.
    fn end(&self, next: &Self) -> SystemTime {
        let changed = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        changed.map_or(next.start, |changed| changed.max(next.start))
    }

    fn recordings(self) -> impl Iterator<Item = FoundRecording> {
        let path = self.path;
        let (members, failed) = match open_regular(&path) {
            Ok(file) => (Some(Members::of(BufReader::new(file))), None),
            // The recorder has deleted it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => (None, Some(FileError::Io(error))),
        };
        let members = members.into_iter().flatten().chain(failed.map(Err));
        members
            // A truncated end is being written, or its writer was stopped.
            .filter(|member| !matches!(member, Err(FileError::Truncated)))
            .map(move |member| member.map_err(|error| (path.clone(), error)))
    }
}

/// Opens a regular file; anything that has replaced it since the directory was listed is not waited for.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// Formats as the file name: `000012-20261123T031000Z.vmexit`.
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_seconds(self.start).to_string();
        write!(f, "{:06}-{}.{EXTENSION}", self.number, time.replace(['-', ':'], ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_file_name_parses_back_to_segment() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let segment = Segment::new(Path::new("/var/lib/vmexit"), 12, start);
        assert_eq!(segment.path.to_str(), Some("/var/lib/vmexit/000012-20261118T110640Z.vmexit"));
        assert_eq!(Segment::of(&segment.path), Some(segment));
        for foreign in
            ["x.vmexit", "1-2.vmexit", "000012-20261118T110640Z.gz", "1-2026111éT110640Z.vmexit"]
        {
            assert_eq!(Segment::of(Path::new(foreign)), None, "{foreign}");
        }
    }
}
