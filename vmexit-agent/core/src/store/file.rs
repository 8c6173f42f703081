//! The recording format: JSON with format and version, compressed by gzip. A file can have several
//! recordings, as consecutive gzip members. Files are untrusted: their size is limited, and their
//! contents are checked.

use std::io::{self, BufRead, Read as _, Write as _};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{MeasurementSum, check};
use crate::{escape::safe, measurement::Measurement};

/// Value of the field `format`.
const FORMAT: &str = "vmexit recording";
/// Version of the format. It grows by one when older versions of vmexit would misread a new file;
/// added fields do not change it.
const FORMAT_VERSION: u64 = 2;

/// Maximum compressed size of one recording, bytes.
const LARGEST_FILE: u64 = 64 << 20;
/// Maximum decompressed size of one recording, bytes: thousands of busy vCPUs take half of it.
const LARGEST_TEXT: u64 = 256 << 20;

/// Maximum size of all recordings of a file decompressed, as a multiple of their compressed size, beyond
/// [`FREE_TEXT`]. Counters compress to a fifth or a twentieth; only text made for it to less.
const MOST_EXPANSION: u64 = 64;
/// Decompressed size that a file may have whatever its compressed size is, bytes.
const FREE_TEXT: u64 = 4 << 20;
/// Maximum number of recordings of a file: a segment has an hour of at least 100 ms each.
const MOST_MEMBERS: u64 = 1 << 16;

/// Reason why a file can't be read. One sentence, safe to print.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file is something else.
    #[error("not a vmexit recording; `vmexit capture -o FILE` writes one")]
    Foreign,
    /// The end of the recording is missing.
    #[error("truncated: the end of the recording is missing")]
    Truncated,
    /// The version of the format is newer than this vmexit.
    #[error(
        "recording format version {0}, but this vmexit reads up to version {FORMAT_VERSION}: use the vmexit \
         that wrote it, or a newer one"
    )]
    Newer(u64),
    /// The file exceeds a size limit.
    #[error(
        "too large for a recording: the limits are {LARGEST_FILE} bytes, and {LARGEST_TEXT} decompressed"
    )]
    TooLarge,
    /// The file decompresses to far more than a recording does.
    #[error(
        "damaged: it decompresses to more than {MOST_EXPANSION} times its size, which no recording does"
    )]
    Expands,
    /// The file has more recordings than an hour can have.
    #[error("damaged: more than {MOST_MEMBERS} recordings in one file")]
    TooMany,
    /// The contents are invalid.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The file can't be read.
    #[error(transparent)]
    Io(io::Error),
}

#[derive(Serialize)]
struct FileContents<'a> {
    format: &'static str,
    version: u64,
    #[serde(flatten)]
    recording: &'a Measurement,
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

/// Contents of a recording's file, which [`read`] accepts.
///
/// # Errors
/// The recording can't be serialized, or exceeds a limit of recordings (`InvalidData`): the message is
/// the limit.
pub fn write(recording: &Measurement) -> io::Result<Vec<u8>> {
    check(recording).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
    let (file, text) = compressed(recording, Compression::default())?;
    let file = if text > FREE_TEXT && text > file.len() as u64 * MOST_EXPANSION {
        // Thousands of vCPUs that are all alike.
        compressed(recording, Compression::none())?.0
    } else {
        file
    };
    if file.len() as u64 >= LARGEST_FILE || text > LARGEST_TEXT {
        let message = FileError::TooLarge.to_string();
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(file)
}

/// A recording as a gzip member, and its size before compression.
fn compressed(recording: &Measurement, level: Compression) -> io::Result<(Vec<u8>, u64)> {
    let mut gzip = Counting { to: GzEncoder::new(Vec::new(), level), written: 0 };
    serde_json::to_writer(
        &mut gzip,
        &FileContents { format: FORMAT, version: FORMAT_VERSION, recording },
    )?;
    gzip.write_all(b"\n")?;
    Ok((gzip.to.finish()?, gzip.written))
}

/// Counts the bytes that go through it.
struct Counting<W> {
    to: W,
    written: u64,
}

impl<W: io::Write> io::Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Reads a file: one recording, or several consecutive ones as their sum.
///
/// # Errors
/// The file can't be read, is no recording, or is damaged, too large or of a newer version.
pub fn read(file: impl BufRead) -> Result<Measurement, FileError> {
    let mut sum = MeasurementSum::default();
    for member in Members::of(file) {
        sum.add(member?).map_err(FileError::damaged)?;
    }
    sum.finish().ok_or(FileError::Foreign)
}

/// Recordings of a file, one after the other, ending with an error if there is one. A truncated
/// last recording is not an error if another precedes it: its writer was stopped.
#[derive(Debug)]
pub struct Members<R> {
    file: R,
    read: u64,
    /// Bytes of the recordings read, and what they were decompressed.
    compressed: u64,
    text: u64,
    failed: bool,
}

impl<R: BufRead> Members<R> {
    /// Recordings of this file.
    pub fn of(file: R) -> Self {
        Self { file, read: 0, compressed: 0, text: 0, failed: false }
    }

    /// Whether the end of the file is reached.
    fn is_at_end(&mut self) -> io::Result<bool> {
        self.file.fill_buf().map(<[u8]>::is_empty)
    }

    /// Text of the next recording.
    fn decompressed(&mut self) -> Result<Vec<u8>, FileError> {
        const GZIP: u8 = 0x1f;
        const PART: u64 = 1 << 20;
        if self.file.fill_buf().map_err(FileError::Io)?.first() != Some(&GZIP) {
            return Err(FileError::Foreign);
        }
        let mut gzip = GzDecoder::new((&mut self.file).take(LARGEST_FILE));
        let mut text = Vec::new();
        loop {
            let read = (&mut gzip).take(PART).read_to_end(&mut text);
            let consumed = LARGEST_FILE - gzip.get_ref().limit();
            let length = text.len() as u64;
            let most = (self.compressed + consumed).saturating_mul(MOST_EXPANSION);
            match read {
                _ if length > LARGEST_TEXT => return Err(FileError::TooLarge),
                _ if self.text + length > most.saturating_add(FREE_TEXT) => {
                    return Err(FileError::Expands);
                }
                Ok(0) => {
                    self.compressed += consumed;
                    self.text += length;
                    return Ok(text);
                }
                Ok(_) => {}
                Err(_) if consumed == LARGEST_FILE => return Err(FileError::TooLarge),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(FileError::Truncated);
                }
                Err(error) => return Err(FileError::damaged(&error.to_string())),
            }
        }
    }

    fn member(&mut self) -> Result<Measurement, FileError> {
        if self.read >= MOST_MEMBERS {
            return Err(FileError::TooMany);
        }
        let text = self.decompressed()?;
        let head: Head = serde_json::from_slice(&text).map_err(|_| FileError::Foreign)?;
        if head.format != FORMAT {
            return Err(FileError::Foreign);
        }
        if head.version > FORMAT_VERSION {
            return Err(FileError::Newer(head.version));
        }
        let recording: Measurement = serde_json::from_slice(&text)
            .map_err(|error| FileError::damaged(&error.to_string()))?;
        check(&recording).map_err(FileError::damaged)?;
        Ok(recording)
    }
}

impl<R: BufRead> Iterator for Members<R> {
    type Item = Result<Measurement, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = match self.is_at_end() {
            Ok(true) => return None,
            Ok(false) => self.member(),
            Err(error) => Err(FileError::Io(error)),
        };
        self.failed = next.is_err();
        self.read += 1;
        match next {
            Err(FileError::Truncated) if self.read > 1 => None,
            next => Some(next),
        }
    }
}

impl FileError {
    fn damaged(reason: &str) -> Self {
        Self::Damaged(safe(reason))
    }
}
