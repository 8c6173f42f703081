//! How a command can fail: one sentence, and an exit code that scripts can tell apart.

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

/// Why a command ended without doing what it was asked for.
#[derive(Debug, Error)]
pub enum Error {
    /// Permissions or KVM are missing.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Tracepoints are missing.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The programs could not be started or read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// VMs can't be looked for.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// There is nothing to trace.
    #[error("no VM is running on this host: start one and try again")]
    NoVm,
    /// There may be something to trace, but not for us to see.
    #[error(
        "not permitted: no VM can be seen, but neither can the files of {0} processes, which takes \
         CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; run vmexit as root on the host itself"
    )]
    HiddenVms(usize),
    /// None of the VMs is meant.
    #[error("no VM answers to '{wanted}'; there are: {known}")]
    UnknownVm {
        /// As typed.
        wanted: String,
        /// Names and process ids.
        known: String,
    },
    /// A socket can only be one VM's.
    #[error("--qmp is one VM's socket: say which by --vm")]
    OneQmpSocket,
    /// A check of `vmexit doctor` failed; it has said which.
    #[error("{0} of these checks would keep a capture from working")]
    Unwell(usize),
    /// The report has nowhere to go.
    #[error("{path} can't be written: {source}")]
    Output {
        /// The file, or standard output.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} can't be read: {source}", escape::path(path))]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// A file is not what perf prints.
    #[error("{} can't be imported: {source}", escape::path(path))]
    Import {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ImportError,
    },
    /// A period is none.
    #[error("--since and --until: {0}")]
    Period(String),
    /// Nothing was recorded then.
    #[error("{} has no recording of that time", escape::path(.0))]
    NothingThen(PathBuf),
    /// A period has more than can be added up.
    #[error("that is too much for one report: {0}; take a shorter time by --since and --until")]
    Long(&'static str),
    /// A recording is nothing to look at.
    #[error("a recording is not for a terminal: name a file by --output")]
    RecordingOnTerminal,
    /// The recording can't be put together.
    #[error("the recording can't be written: {0}")]
    Recording(io::Error),
    /// The report can't be turned into JSON.
    #[error("the report can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A configuration file that was asked for.
    #[error("the configuration file {path} can't be read: {source}")]
    Config {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else has the port, say.
    #[error("can't listen on {address}: {source}; --listen takes another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// More is allowed than serving takes, and that can't be changed.
    #[error("capabilities can't be given up: {0}")]
    Privileges(CapsError),
    /// The sums can't be written as metrics.
    #[error("the metrics can't be written: {0}")]
    Metrics(ExpositionError),
    /// The terminal does not do as it is told.
    #[error("the terminal can't be used: {0}")]
    Screen(io::Error),
    /// Signals can't be waited for.
    #[error("signals can't be handled: {0}")]
    Signal(io::Error),
}

impl Error {
    /// The process's exit code; `vmexit --help` lists them.
    pub fn code(&self) -> u8 {
        match self {
            Self::Preflight(PreflightError::NotPermitted(_))
            | Self::Probe(ProbeError::Forbidden)
            | Self::HiddenVms(_)
            | Self::Layout(LayoutError::Forbidden(_))
            | Self::Probe(ProbeError::Layout(LayoutError::Forbidden(_))) => 3,
            Self::Preflight(PreflightError::NoKvm) | Self::Layout(_) | Self::Unwell(_) => 4,
            Self::Probe(
                ProbeError::Program { .. } | ProbeError::Layout(_) | ProbeError::Mmap { .. },
            ) => 4,
            Self::OneQmpSocket
            | Self::Period(_)
            | Self::RecordingOnTerminal
            | Self::Config { .. } => 2,
            Self::NoVm => 5,
            Self::UnknownVm { .. } => 6,
            Self::Output { .. } => 7,
            Self::File { .. } | Self::NothingThen(_) | Self::Long(_) | Self::Import { .. } => 8,
            Self::Probe(_)
            | Self::Proc(_)
            | Self::Recording(_)
            | Self::Json(_)
            | Self::Listen { .. }
            | Self::Metrics(_)
            | Self::Privileges(_)
            | Self::Screen(_)
            | Self::Signal(_) => 1,
        }
    }
}
