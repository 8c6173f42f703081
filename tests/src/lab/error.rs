//! Errors of a lab, as opposed to those of the script in it. Each message says what happened and, if possible, what
//! the user can do.

use std::{
    io,
    process::{Command, ExitStatus},
    time::Duration,
};

/// Failure of a lab. A script that ends with a code other than 0 is none.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program that the lab needs is missing on the host.
    #[error("`{tool}` was not found on this machine: install it with `apt-get install {package}`")]
    MissingTool {
        /// Name of the program.
        tool: String,
        /// Debian package of the program.
        package: &'static str,
    },
    /// A file of a program is missing.
    #[error("{what} was not found: {hint}")]
    MissingFile {
        /// Description of the file.
        what: String,
        /// Advice to the user.
        hint: String,
    },
    /// apt's sources have no usable entry for the archive.
    #[error("no Debian archive in apt's sources: {0}")]
    Sources(String),
    /// The suites have no kernel of that version.
    #[error("no cloud kernel {wanted} was found; searched: {searched}")]
    NoKernel {
        /// Requested version.
        wanted: String,
        /// Suites that were searched, with the error of each that can't be read.
        searched: String,
    },
    /// The suites have no such version of a package.
    #[error("no package {wanted} was found; searched: {searched}")]
    NoPackage {
        /// Package and prefix of its version.
        wanted: String,
        /// Suites that were searched.
        searched: String,
    },
    /// A command of the host failed.
    #[error("`{command}` ended with {status}: {stderr}")]
    Command {
        /// Command line.
        command: String,
        /// Exit status.
        status: ExitStatus,
        /// Standard error.
        stderr: String,
    },
    /// A path in the lab is not absolute, has `..`, or is reserved.
    #[error(
        "{0:?} is no place for a file in a lab: give an absolute path without `..`, and not below /dev, /proc, /sys or /lab"
    )]
    GuestPath(String),
    /// A file given as a program is not an ELF file.
    #[error("{0} is not an ELF program: add scripts and data with `file` instead")]
    NotElf(String),
    /// An I/O error on the host.
    #[error("could not {what}: {source}")]
    Io {
        /// Failed action.
        what: String,
        /// Cause of the failure.
        source: io::Error,
    },
    /// The lab's kernel panicked, oopsed or reported a bug, whatever the verdict.
    #[error("the lab's kernel crashed\n{scene}")]
    Crashed {
        /// Console output from the first line of the crash.
        scene: String,
    },
    /// The run took longer than its time-out.
    #[error(
        "the lab did not end within {limit:?}: raise the time-out or look for what hung\n{scene}"
    )]
    Hung {
        /// Time-out of the run.
        limit: Duration,
        /// Last lines of the console and of the script's output.
        scene: String,
    },
    /// The emulator failed.
    #[error("{emulator} ended with {status} before the script did: {stderr}\n{scene}")]
    Died {
        /// Name of the emulator.
        emulator: &'static str,
        /// Exit status of the emulator.
        status: ExitStatus,
        /// Standard error of the emulator.
        stderr: String,
        /// Last lines of the console and of the script's output.
        scene: String,
    },
    /// The lab's init failed.
    #[error("the lab could not `{step}`\n{scene}")]
    Setup {
        /// Command that failed.
        step: String,
        /// Last lines of the console.
        scene: String,
    },
    /// The machine went down in order, but without a verdict on the script.
    #[error("the lab went down without a verdict: did the script reboot it?\n{scene}")]
    NoVerdict {
        /// Last lines of the console and of the script's output.
        scene: String,
    },
    /// The console has more than one verdict, or an invalid one.
    #[error("the lab gave {count} verdicts, where it should give one\n{scene}")]
    Verdicts {
        /// Number of verdicts.
        count: usize,
        /// Last lines of the console and of the script's output.
        scene: String,
    },
}

/// Adds the failed action to an I/O error.
pub(super) trait DuringIo<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T> DuringIo<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io { what: what(), source })
    }
}

/// Runs a command and returns its standard output. The error of a failure has its standard error.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>, LabError> {
    let shown = || format!("{command:?}").replace('"', "");
    let line = shown();
    let done = command.output().during(|| format!("run {line}"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let stderr = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(LabError::Command { command: line, status: done.status, stderr })
}
