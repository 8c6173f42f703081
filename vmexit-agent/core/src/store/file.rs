//! Recordings as files: JSON, compressed by gzip, that begins with what it is and its version; one behind the
//! other where a file has several. What is read may be anything: it is bounded in size, and taken only if the
//! model can work with it.

use std::io::{self, BufRead, Read as _, Write as _};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{MeasurementSum, check};
use crate::{escape::safe, measurement::Measurement};

/// What a file says that it is.
const FORMAT: &str = "vmexit recording";
/// Version of the files. It grows by one when older versions of vmexit would misread a new one; what is
/// merely added leaves it.
const FORMAT_VERSION: u64 = 2;

/// The most of a file that is read for one recording, bytes.
const LARGEST_FILE: u64 = 64 << 20;
/// The most that one is decompressed to, bytes: thousands of busy vCPUs take half of it.
const LARGEST_TEXT: u64 = 256 << 20;

/// Why a file is not taken. One sentence, safe to print.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is something else.
    #[error("it is no recording of vmexit; `vmexit capture -o FILE` writes one")]
    Foreign,
    /// It lacks its end.
    #[error("it ends too early: the rest of the recording is missing")]
    Truncated,
    /// This version does not know what it means.
    #[error(
        "it is a recording of version {0}, and this vmexit reads up to version {FORMAT_VERSION}: take the \
         vmexit that wrote it, or a newer one"
    )]
    Newer(u64),
    /// It is more than a recording can be.
    #[error(
        "it is too large for a recording: {LARGEST_FILE} bytes are read, and {LARGEST_TEXT} decompressed"
    )]
    TooLarge,
    /// It has what no recording has.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The system does not give it.
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

/// The bytes of a recording's file.
///
/// # Errors
/// None that is known: numbers and names can all be written.
pub fn write(recording: &Measurement) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(
        &mut gzip,
        &FileContents { format: FORMAT, version: FORMAT_VERSION, recording },
    )?;
    gzip.write_all(b"\n")?;
    gzip.finish()
}

/// Reads what a file has: one recording, or several that follow one another, as one.
///
/// # Errors
/// Whatever is no recording that this version can read.
pub fn read(file: impl BufRead) -> Result<Measurement, FileError> {
    let mut sum = MeasurementSum::default();
    for member in Members::of(file) {
        sum.add(member?).map_err(FileError::damaged)?;
    }
    sum.finish().ok_or(FileError::Foreign)
}

/// The recordings of a file, one after the other; the last item is an error if there is one. The end of the
/// last may be missing if there is one before it: whoever was writing was stopped.
#[derive(Debug)]
pub struct Members<R> {
    file: R,
    read: u64,
    failed: bool,
}

impl<R: BufRead> Members<R> {
    /// Those of this file.
    pub fn of(file: R) -> Self {
        Self { file, read: 0, failed: false }
    }

    /// Whether there is nothing behind what was read.
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
    fn damaged(what: &str) -> Self {
        Self::Damaged(safe(what))
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
