//! A directory of recordings that follow one another: what `vmexit record` keeps of the last hours. Each file
//! is a segment, some time of it; a recording is added at its end, so that whoever is killed while writing
//! spoils nothing but the last one.

mod recorder;

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub use self::recorder::{Limits, Recorder};
use super::file::{FileError, Members};
use crate::measurement::Measurement;

/// How a segment's name ends.
const EXTENSION: &str = "vmexit";

/// What is there of a directory's segments, oldest first.
#[derive(Debug)]
pub struct Archive {
    segments: Vec<Segment>,
}

/// One file. They are numbered, for clocks may be set back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    path: PathBuf,
    number: u64,
    start: SystemTime,
}

/// A time from here to there; without end where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Its beginning.
    pub since: Option<SystemTime>,
    /// Its end, which is not part of it.
    pub until: Option<SystemTime>,
}

impl Period {
    /// Whether what begins then and takes so long is in it, or a part of it.
    fn overlaps(&self, start: SystemTime, length: Duration) -> bool {
        let end = start.checked_add(length).unwrap_or(start);
        self.since.is_none_or(|since| end > since) && self.until.is_none_or(|until| start < until)
    }
}

/// The recordings of a period that a file has, or a directory of them, in the order in which they were made.
///
/// # Errors
/// There is no such file or directory.
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

/// A recording, or why a file has no more.
pub type FoundRecording = Result<Measurement, (PathBuf, FileError)>;

/// Errors are wanted.
fn is_wanted(found: &FoundRecording, period: Period) -> bool {
    found.as_ref().map_or(true, |recording| recording.is_in(period))
}

impl Archive {
    /// Looks what there is.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            segments.extend(Segment::of(&entry?.path()));
        }
        segments.sort_by_key(|segment| segment.number);
        Ok(Self { segments })
    }

    /// The recordings of a period, in the order in which they were made. A file that can't be read to its end
    /// gives what it has, then an error with its name, and the next file follows.
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
    /// Whether it is of that time; of any if nobody knows when it was.
    fn is_in(&self, period: Period) -> bool {
        let Some(start) = self.start else { return period == Period::default() };
        period.overlaps(start, Duration::from_nanos(self.interval.length_ns()))
    }
}

impl Segment {
    /// What a path says; `None` if it is nothing of ours.
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

    /// The one that begins now.
    fn new(directory: &Path, number: u64, start: SystemTime) -> Self {
        let mut segment = Self { path: PathBuf::new(), number, start };
        segment.path = directory.join(segment.to_string());
        segment
    }

    /// No recording of it ends later: the next one's beginning, or the file's last change, which the recorder sets,
    /// where the clock was set back in between. That of a copy may be later.
    fn end(&self, next: &Self) -> SystemTime {
        let changed = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        changed.map_or(next.start, |changed| changed.max(next.start))
    }

    fn recordings(self) -> impl Iterator<Item = FoundRecording> {
        let path = self.path;
        let (members, failed) = match File::open(&path) {
            Ok(file) => (Some(Members::of(BufReader::new(file))), None),
            // Somebody made room meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => (None, Some(FileError::Io(error))),
        };
        let members = members.into_iter().flatten().chain(failed.map(Err));
        members
            // It is being written, or who wrote it was stopped.
            .filter(|member| !matches!(member, Err(FileError::Truncated)))
            .map(move |member| member.map_err(|error| (path.clone(), error)))
    }
}

/// Its file's name: `000012-20261123T031000Z.vmexit`.
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
    fn a_name_says_which_and_when() {
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
