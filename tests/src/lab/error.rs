//! What can go wrong with a lab, as opposed to with the script that runs in it. Each variant says
//! what happened and, where the user can do something about it, what to do next.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A lab that did not do its work. A script that ended with a non-zero code is not one of these.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program of the host that the lab needs.
    #[error("`{tool}` was not found on this machine: install it with `apt-get install {package}`")]
    MissingTool {
        /// Its name.
        tool: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file that belongs to a program is not there.
    #[error("{what} was not found: {hint}")]
    MissingFile {
        /// The file.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The archive that apt uses could not be told from its sources.
    #[error("no Debian archive in apt's sources: {0}")]
    Sources(String),
    /// No kernel of that version in the suites that were searched.
    #[error("no cloud kernel {wanted} was found; searched: {searched}")]
    NoKernel {
        /// The version asked for.
        wanted: String,
        /// The suites, and what went wrong with each that could not be read.
        searched: String,
    },
    /// No such version of a package in the suites that were searched.
    #[error("no package {wanted} was found; searched: {searched}")]
    NoPackage {
        /// The package and the start of its version.
        wanted: String,
        /// The suites.
        searched: String,
    },
    /// A command of the host failed.
    #[error("`{command}` ended with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A path inside the lab that is not absolute and plain, or where nothing can be put.
    #[error(
        "{0:?} is no place for a file in a lab: give an absolute path without `..`, and not below /dev, /proc, /sys or /lab"
    )]
    GuestPath(String),
    /// A file given as a program is not one.
    #[error("{0} is not an ELF program: add scripts and data with `file` instead")]
    NotElf(String),
    /// A file of the host could not be read or written.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The lab's kernel panicked, oopsed or reported a bug, whatever the script said after that.
    #[error("the lab's kernel crashed\n{scene}")]
    Crashed {
        /// The console from the first line of the crash.
        scene: String,
    },
    /// The time ran out.
    #[error(
        "the lab did not end within {limit:?}: raise the time-out or look for what hung\n{scene}"
    )]
    Hung {
        /// The time-out.
        limit: Duration,
        /// The last lines of the console and of the script's output.
        scene: String,
    },
    /// The emulator itself failed.
    #[error("{emulator} ended with {status} before the script did: {stderr}\n{scene}")]
    Died {
        /// Its name.
        emulator: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
        /// The last lines of the console and of the script's output.
        scene: String,
    },
    /// The lab could not be set up inside its kernel.
    #[error("the lab could not `{step}`\n{scene}")]
    Setup {
        /// The command that failed.
        step: String,
        /// The last lines of the console.
        scene: String,
    },
    /// The machine went down in order, but nobody said how the script ended.
    #[error("the lab went down without a verdict: did the script reboot it?\n{scene}")]
    NoVerdict {
        /// The last lines of the console and of the script's output.
        scene: String,
    },
    /// More than one verdict, or one that makes no sense.
    #[error("the lab gave {count} verdicts, where it should give one\n{scene}")]
    Verdicts {
        /// How many.
        count: usize,
        /// The last lines of the console and of the script's output.
        scene: String,
    },
}

/// Says what was being done when an I/O error came up.
pub(super) trait DuringIo<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T> DuringIo<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io { what: what(), source })
    }
}

/// Runs a command to its end and returns its stdout; a failure carries its stderr.
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
