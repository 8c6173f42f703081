//! Output of commands: standard output, or a file that is complete or does not exist.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, stdout};
use vmexit_core::{
    finding,
    measurement::Measurement,
    store::{
        ENDED, file,
        place::{self, Directory, Unfinished},
    },
};
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
    to: Destination,
}

/// What is written to.
enum Destination {
    /// A regular file, which has its name only when it is complete.
    File(Unfinished),
    /// A pipe, a terminal or /dev/null, which is written directly.
    Special(std::fs::File),
}

impl Output {
    /// Opens a file, or standard output without a path.
    ///
    /// # Errors
    /// The file can't be created or opened.
    pub(crate) async fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self { target: None }) };
        let to_open = path.to_owned();
        // A pipe without a reader blocks.
        match blocking(move || Target::open(&to_open)).await {
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
            Some(target) => (target.path.clone(), blocking(move || target.write(&report)).await),
            None => return print(report).await.map(drop),
        };
        result.map_err(|source| Error::Output { path, source })
    }
}

/// Runs system calls that may block on a thread of their own.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(io::Error::other)?
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
            say_merged(measurement);
            Ok(file::write(measurement).map_err(Error::Recording)?.into())
        }
    }
}

/// Says that threads have been merged, if they have been.
pub(crate) fn say_merged(measurement: &Measurement) {
    if measurement.interval.vcpus.iter().any(|vcpu| vcpu.thread.tid == ENDED) {
        log::warn!(
            "so many vCPU threads have ended that they are summed by VM, as a vCPU of thread ID 0; all \
             counts are in it"
        );
    }
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        let to = match place::open_special(path)? {
            Some(special) => Destination::Special(special),
            None => {
                let directory = Directory::open(path.parent().unwrap_or(Path::new("")))?;
                Destination::File(directory.begin(file_name(path)?)?)
            }
        };
        Ok(Self { path: path.into(), to })
    }

    fn write(self, report: &[u8]) -> io::Result<()> {
        match self.to {
            Destination::Special(mut special) => special.write_all(report),
            Destination::File(mut unfinished) => {
                unfinished.file().write_all(report)?;
                unfinished.finish(file_name(&self.path)?)
            }
        }
    }
}

fn file_name(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::ErrorKind::IsADirectory.into())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn output_link_is_refused_and_its_target_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "mine").expect("written");
        symlink(&target, &link).expect("a link");
        let error = Target::open(&link).err().expect("refused");
        assert!(error.to_string().contains("links are not followed"), "{error}");
        // A link that is made meanwhile is replaced.
        let other = directory.path().join("other");
        let output = Target::open(&other).expect("opened");
        symlink(&target, &other).expect("a link");
        output.write(b"new").expect("written");
        assert_eq!(fs::read_to_string(&target).expect("read"), "mine");
        assert!(fs::symlink_metadata(&other).expect("exists").is_file());
    }

    #[test]
    fn output_file_is_private_and_has_no_name_until_complete() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("k.vmexit");
        // Left by a process that was killed; and files that only look like it.
        let stale = directory.path().join(format!("k.vmexit.{}.partial", u32::MAX));
        let foreign = directory.path().join("k.vmexit.x.partial");
        fs::write(&stale, "").expect("written");
        fs::write(&foreign, "").expect("written");
        let output = Target::open(&path).expect("opened");
        let names = || fs::read_dir(directory.path()).expect("listed").count();
        assert!(!stale.exists() && foreign.exists());
        assert!(!path.exists());
        output.write(b"all").expect("written");
        assert_eq!((fs::read(&path).expect("read"), names()), (b"all".to_vec(), 2));
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(Target::open(&path).expect("opened"));
        assert_eq!((fs::read(&path).expect("read"), names()), (b"all".to_vec(), 2));
    }

    #[test]
    fn output_devices_but_null_are_refused() {
        for path in ["/dev/zero", "/dev/kmsg", "/dev/full", "/dev/loop0", "/dev"] {
            assert!(Target::open(path.as_ref()).is_err(), "{path}");
        }
        Target::open("/dev/null".as_ref()).expect("opened").write(b"x").expect("written");
    }
}
