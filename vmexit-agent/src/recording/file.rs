//! Recordings as files: JSON, compressed by gzip, that begins with what it is and its version. What is read
//! may be anything: it is bounded in size, and taken only if the model can work with it.

use std::io::{self, Read, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Recording, check};
use crate::view::safe;

/// What a file says that it is.
const FORMAT: &str = "vmexit recording";
/// Version of the files. It grows by one when older versions of vmexit would misread a new one; what is
/// merely added leaves it.
const FORMAT_VERSION: u64 = 1;

/// Largest file that is read, bytes.
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
struct Written<'a> {
    format: &'static str,
    version: u64,
    #[serde(flatten)]
    recording: &'a Recording,
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
pub fn write(recording: &Recording) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(
        &mut gzip,
        &Written { format: FORMAT, version: FORMAT_VERSION, recording },
    )?;
    gzip.write_all(b"\n")?;
    gzip.finish()
}

/// Reads a recording.
///
/// # Errors
/// Whatever is no recording that this version can read.
pub fn read(file: impl Read) -> Result<Recording, FileError> {
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(FileError::Io)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(FileError::TooLarge);
    }
    let text = decompressed(&bytes)?;
    let head: Head = serde_json::from_slice(&text).map_err(|_| FileError::Foreign)?;
    if head.format != FORMAT {
        return Err(FileError::Foreign);
    }
    if head.version > FORMAT_VERSION {
        return Err(FileError::Newer(head.version));
    }
    let recording: Recording = serde_json::from_slice(&text)
        .map_err(|error| FileError::Damaged(safe(&error.to_string())))?;
    check(&recording).map_err(|what| FileError::Damaged(what.to_owned()))?;
    Ok(recording)
}

fn decompressed(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    if !bytes.starts_with(&GZIP) {
        return Err(FileError::Foreign);
    }
    let mut text = Vec::new();
    match GzDecoder::new(bytes).take(LARGEST_TEXT + 1).read_to_end(&mut text) {
        Ok(_) if text.len() as u64 > LARGEST_TEXT => Err(FileError::TooLarge),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(FileError::Truncated),
        Err(error) => Err(FileError::Damaged(safe(&error.to_string()))),
    }
}
