//! Errors of commands. Each is one sentence for the user and has an exit code for scripts.

use std::{io, net::SocketAddr, path::PathBuf};

use caps::errors::CapsError;
use thiserror::Error;
use vmexit_core::{escape, import::ImportError, store::file::FileError};
use vmexit_view::metrics::ExpositionError;

use crate::{
    discover::ProcError,
    host::{preflight::PreflightError, tracefs::LayoutError},
    probe::ProbeError,
};

/// Reason why a command failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Capabilities or KVM are missing.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// A required tracepoint can't be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The eBPF programs can't be loaded, attached or read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// `/proc` can't be searched for VMs.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// No VM is running.
    #[error("no VM is running on this host: start one and try again")]
    NoVm,
    /// No VM was found, but the open files of some processes can't be read.
    #[error(
        "not permitted: no VM was found, but the open files of {0} processes can't be read without \
         CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; run vmexit as root on the host itself"
    )]
    HiddenVms(usize),
    /// `--vm` matches no VM.
    #[error("no VM matches '{wanted}'; VMs found: {known}")]
    UnknownVm {
        /// Argument of `--vm`.
        wanted: String,
        /// Names and process IDs of the VMs that were found.
        known: String,
    },
    /// `--qmp` was given, but `--vm` matches several VMs.
    #[error("--qmp is the socket of one VM: select that VM with --vm")]
    QmpNeedsOneVm,
    /// Checks of `vmexit doctor` failed; their number.
    #[error("{0} of these checks failed: a capture can't work until they are fixed")]
    ChecksFailed(usize),
    /// The output can't be written.
    #[error("{path} can't be written: {source}")]
    Output {
        /// Output file, or "standard output".
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// A recording can't be read.
    #[error("{} can't be read: {source}", escape::path(path))]
    File {
        /// Path of the recording.
        path: PathBuf,
        /// Error of the reader.
        source: FileError,
    },
    /// perf's output can't be imported.
    #[error("{} can't be imported: {source}", escape::path(path))]
    Import {
        /// Path of the text.
        path: PathBuf,
        /// Error of the parser.
        source: ImportError,
    },
    /// `--since` and `--until` are not a valid period.
    #[error("--since and --until: {0}")]
    Period(String),
    /// The recording has no interval in the period.
    #[error(
        "{} has no recording of that period: choose another one with --since and --until",
        escape::path(.0)
    )]
    EmptyPeriod(PathBuf),
    /// The counters of the period overflow.
    #[error(
        "the period is too long for one report: {0}; choose a shorter one with --since and --until"
    )]
    PeriodTooLong(&'static str),
    /// The format is a recording, and standard output is a terminal.
    #[error("a recording is binary and can't go to a terminal: name a file with --output")]
    RecordingOnTerminal,
    /// The recording can't be encoded.
    #[error("the recording can't be written: {0}")]
    Recording(io::Error),
    /// The report can't be encoded as JSON.
    #[error("the report can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The file of `--config` can't be read.
    #[error("the configuration file {path} can't be read: {source}")]
    Config {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The address of `--listen` can't be bound.
    #[error("can't listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// Error of the system call.
        source: io::Error,
    },
    /// Capabilities that only attaching needs can't be dropped.
    #[error("capabilities can't be dropped: {0}")]
    Privileges(CapsError),
    /// The metrics can't be encoded.
    #[error("the metrics can't be written: {0}")]
    Metrics(ExpositionError),
    /// The terminal can't be read or written.
    #[error("the terminal can't be used: {0}")]
    Terminal(io::Error),
    /// Signal handlers can't be installed.
    #[error("signals can't be handled: {0}")]
    Signal(io::Error),
}

impl Error {
    /// Exit code of the process; `vmexit --help` lists them.
    pub fn code(&self) -> u8 {
        match self {
            Self::Preflight(PreflightError::NotPermitted(_))
            | Self::Probe(ProbeError::Forbidden)
            | Self::HiddenVms(_)
            | Self::Layout(LayoutError::Forbidden(_))
            | Self::Probe(ProbeError::Layout(LayoutError::Forbidden(_))) => 3,
            Self::Preflight(PreflightError::NoKvm | PreflightError::Lockdown)
            | Self::Layout(_)
            | Self::ChecksFailed(_) => 4,
            Self::Probe(
                ProbeError::Program { .. } | ProbeError::Layout(_) | ProbeError::Mmap { .. },
            ) => 4,
            Self::QmpNeedsOneVm
            | Self::Period(_)
            | Self::RecordingOnTerminal
            | Self::Config { .. } => 2,
            Self::NoVm => 5,
            Self::UnknownVm { .. } => 6,
            Self::Output { .. } => 7,
            Self::File { .. }
            | Self::EmptyPeriod(_)
            | Self::PeriodTooLong(_)
            | Self::Import { .. } => 8,
            Self::Probe(_)
            | Self::Proc(_)
            | Self::Recording(_)
            | Self::Json(_)
            | Self::Listen { .. }
            | Self::Metrics(_)
            | Self::Privileges(_)
            | Self::Terminal(_)
            | Self::Signal(_) => 1,
        }
    }
}
