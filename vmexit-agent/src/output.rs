//! Output of commands: standard output, or a file that is complete or does not exist.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::{
    fs,
    io::{AsyncWriteExt as _, stdout},
};
use vmexit_core::{finding, measurement::Measurement, store::file};
use vmexit_view::TableOptions;

use crate::{
    args::{MeasurementFormat, WrittenArgs},
    error::Error,
};

/// Destination of a report. It is opened before anything is traced: a wrong path fails at once, not after a capture.
pub(crate) struct Output {
    target: Option<Target>,
}

/// An output file.
struct Target {
    path: PathBuf,
    /// File that is written first and renamed at the end; `None` for devices and pipes, which are written directly.
    temporary: Option<PathBuf>,
    file: fs::File,
}

impl Output {
    /// Opens a file, or standard output without a path.
    ///
    /// # Errors
    /// The file can't be created or opened.
    pub(crate) async fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self { target: None }) };
        match Target::open(path).await {
            Ok(target) => Ok(Self { target: Some(target) }),
            Err(source) => Err(Error::Output { path: path.into(), source }),
        }
    }

    /// Opens the destination of a measurement.
    ///
    /// # Errors
    /// The file can't be created or opened, or a recording would go to a terminal.
    pub(crate) async fn for_measurement(args: &WrittenArgs) -> Result<Self, Error> {
        let on_terminal = args.output.is_none() && io::stdout().is_terminal();
        if on_terminal && args.format() == MeasurementFormat::Recording {
            return Err(Error::RecordingOnTerminal);
        }
        Self::open(args.output.as_deref()).await
    }

    /// Writes the whole report.
    ///
    /// # Errors
    /// The destination can't be written.
    pub(crate) async fn write(self, report: Bytes) -> Result<(), Error> {
        let (path, result) = match self.target {
            Some(target) => (target.path.clone(), target.write(report).await),
            None => return print(report).await.map(drop),
        };
        result.map_err(|source| Error::Output { path, source })
    }
}

/// Writes to standard output; false if its reader has closed it.
///
/// # Errors
/// Standard output can't be written for another reason.
pub(crate) async fn print(mut text: Bytes) -> Result<bool, Error> {
    let mut stdout = stdout();
    let written = match stdout.write_all_buf(&mut text).await {
        Ok(()) => stdout.flush().await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => Ok(true),
        // As in `vmexit capture | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::Output { path: "standard output".into(), source }),
    }
}

/// Encodes a measurement as a report or a recording.
///
/// # Errors
/// The measurement can't be encoded in that format.
pub(crate) fn render(
    measurement: &Measurement,
    format: MeasurementFormat,
    options: &TableOptions,
) -> Result<Bytes, Error> {
    match format {
        MeasurementFormat::Report(format) => {
            let report = finding::report(measurement, options.scope());
            Ok(vmexit_view::render(report, options, format)?)
        }
        MeasurementFormat::Recording => {
            Ok(file::write(measurement).map_err(Error::Recording)?.into())
        }
    }
}

impl Target {
    async fn open(path: &Path) -> io::Result<Self> {
        let is_regular = match fs::metadata(path).await {
            Ok(existing) => existing.is_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let temporary = is_regular.then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.partial", std::process::id()));
            PathBuf::from(name)
        });
        let to_open = temporary.as_deref().unwrap_or(path);
        let file = fs::OpenOptions::new()
            .write(true)
            .create(is_regular)
            .truncate(is_regular)
            .open(to_open)
            .await?;
        Ok(Self { path: path.into(), temporary, file })
    }

    async fn write(mut self, mut report: Bytes) -> io::Result<()> {
        self.file.write_all_buf(&mut report).await?;
        self.file.flush().await?;
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path).await?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The file is incomplete; if it can't be removed, it stays as `.partial`.
            let _ = std::fs::remove_file(temporary);
        }
    }
}
