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

/// Contents of a recording's file.
///
/// # Errors
/// The recording can't be serialized.
pub fn write(recording: &Measurement) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(
        &mut gzip,
        &FileContents { format: FORMAT, version: FORMAT_VERSION, recording },
    )?;
    gzip.write_all(b"\n")?;
    gzip.finish()
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
    failed: bool,
}

impl<R: BufRead> Members<R> {
    /// Recordings of this file.
    pub fn of(file: R) -> Self {
        Self { file, read: 0, failed: false }
    }

    /// Whether the end of the file is reached.
    fn is_at_end(&mut self) -> io::Result<bool> {
        self.file.fill_buf().map(<[u8]>::is_empty)
    }

    fn member(&mut self) -> Result<Measurement, FileError> {
        let text = decompressed(&mut self.file)?;
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

fn decompressed(file: &mut impl BufRead) -> Result<Vec<u8>, FileError> {
    const GZIP: u8 = 0x1f;
    if file.fill_buf().map_err(FileError::Io)?.first() != Some(&GZIP) {
        return Err(FileError::Foreign);
    }
    let mut compressed = file.take(LARGEST_FILE);
    let mut text = Vec::new();
    let read = GzDecoder::new(&mut compressed).take(LARGEST_TEXT + 1).read_to_end(&mut text);
    match read {
        Ok(_) if text.len() as u64 > LARGEST_TEXT => Err(FileError::TooLarge),
        Ok(_) => Ok(text),
        Err(_) if compressed.limit() == 0 => Err(FileError::TooLarge),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(FileError::Truncated),
        Err(error) => Err(FileError::damaged(&error.to_string())),
    }
}
