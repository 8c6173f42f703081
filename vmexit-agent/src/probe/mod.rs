//! The eBPF programs: loaded, attached, and their maps read into a [`Snapshot`].
//!
//! Everything belongs to this process: when it ends, even by SIGKILL, the kernel detaches and
//! frees it all. Nothing is pinned.

mod mapping;
mod reader;

use std::{collections::BTreeSet, io};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, MapError, PerCpuArray, Queue},
    programs::{ProgramError, TracePoint},
};
use aya_log::EbpfLogger;
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use vmexit_common::{
    book::Book,
    vcpu::{ENTRIES_PER_BOOK, Loss, Vcpu},
};

use self::mapping::Mapping;
use crate::{
    host::tracefs::{LayoutError, Tracefs},
    snapshot::Snapshot,
};

/// Attached in this order, so that no exit is opened before its entry can close it.
const PROGRAMS: [&str; 3] = ["kvm_entry", "kvm_pio", "kvm_exit"];

/// Why tracing could not be started.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The tracepoints are not as needed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel took no map or object.
    #[error("the eBPF object can't be loaded: {0}")]
    Load(#[from] aya::EbpfError),
    /// Capabilities that count in a user namespace only.
    #[error(
        "not permitted: eBPF is for the initial user namespace; run vmexit on the host itself, or in a \
         container with CAP_BPF, CAP_PERFMON and no user namespace of its own"
    )]
    Forbidden,
    /// The kernel refused a program.
    #[error("the kernel refused the program for kvm:{program}: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// What aya or the verifier said.
        source: ProgramError,
    },
    /// A map operation failed.
    #[error("an eBPF map can't be used: {0}")]
    Map(#[from] MapError),
    /// The object lacks a map or program: it was built from other sources.
    #[error("the eBPF object has no {0}: rebuild vmexit")]
    Missing(&'static str),
    /// The maps can't be shared.
    #[error("the eBPF map {name} can't be mapped (Linux 5.5 or later is needed): {source}")]
    Mmap {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What to trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// vCPUs that get a book; the maps' memory is proportional to it.
    pub max_vcpus: u32,
    /// Processes to trace; all if `None`.
    pub pids: Option<BTreeSet<u32>>,
}

/// Attached programs and their maps.
pub struct Probe {
    vcpus: Mapping<Vcpu>,
    books: Mapping<Book>,
    loss: PerCpuArray<MapData, Loss>,
    // Owns programs and links; dropping it detaches.
    _ebpf: Ebpf,
}

/// The eBPF object, built with the agent.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vmexit-ebpf"));

impl Probe {
    /// Loads and attaches. From here on everything is counted.
    pub fn start(tracefs: &Tracefs, options: &Options) -> Result<Self, ProbeError> {
        let (exit_layout, pio_layout) = (tracefs.exit_layout()?, tracefs.pio_layout()?);
        tracefs.require("kvm_entry")?;
        let books = options.max_vcpus.max(1);
        let entries = (books * ENTRIES_PER_BOOK).next_power_of_two();
        let pids = options.pids.iter().flatten().copied();
        let mut ebpf = EbpfLoader::new()
            .override_global("EXIT_LAYOUT", &exit_layout, true)
            .override_global("PIO_LAYOUT", &pio_layout, true)
            .override_global("VCPU_MASK", &(entries - 1), true)
            .override_global("FILTER", &u8::from(options.pids.is_some()), true)
            .map_max_entries("VCPUS", entries)
            .map_max_entries("BOOKS", books)
            .map_max_entries("FREE_BOOKS", books)
            .map_max_entries("VMS", pids.clone().count().max(1) as u32)
            .load(OBJECT)
            .map_err(
                |error| if is_forbidden(&error) { ProbeError::Forbidden } else { error.into() },
            )?;
        forward_log(&mut ebpf);
        // Programs hold the maps they use; a map taken out before would be closed with its handle.
        for name in PROGRAMS {
            program(&mut ebpf, name)?.load().map_err(|source| refused(name, source))?;
        }

        let mut free = Queue::<_, u32>::try_from(take(&mut ebpf, "FREE_BOOKS")?)?;
        for book in 0..books {
            free.push(book, 0)?;
        }
        let mut filter = HashMap::<_, u32, u8>::try_from(take(&mut ebpf, "VMS")?)?;
        for pid in pids {
            filter.insert(pid, 1, 0)?;
        }
        let vcpus = Mapping::new("VCPUS", &take(&mut ebpf, "VCPUS")?, entries)?;
        let books = Mapping::new("BOOKS", &take(&mut ebpf, "BOOKS")?, books)?;
        let loss = PerCpuArray::try_from(take(&mut ebpf, "LOSS")?)?;

        for name in PROGRAMS {
            let program = program(&mut ebpf, name)?;
            program.attach("kvm", name).map_err(|source| refused(name, source))?;
        }
        Ok(Self { vcpus, books, loss, _ebpf: ebpf })
    }

    /// What has been counted so far. Neither stops nor clears anything.
    pub fn snapshot(&self) -> Result<Snapshot, ProbeError> {
        let mut snapshot = reader::read(&self.vcpus, &self.books);
        for loss in self.loss.get(&0, 0)?.iter() {
            snapshot.loss.no_vcpu_entry += loss.no_vcpu_entry;
            snapshot.loss.unreadable += loss.unreadable;
        }
        Ok(snapshot)
    }

    /// Events counted so far, over all vCPUs: cheap enough for a progress line.
    pub fn events_seen(&self) -> u64 {
        reader::events_seen(&self.vcpus)
    }
}

/// Whether the kernel refused for want of rights, somewhere down the chain of causes.
fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::PermissionDenied) || error.source().is_some_and(is_forbidden)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProbeError> {
    ebpf.take_map(name).ok_or(ProbeError::Missing(name))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut TracePoint, ProbeError> {
    let program = ebpf.program_mut(name).ok_or(ProbeError::Missing(name))?;
    program.try_into().map_err(|source| refused(name, source))
}

fn refused(program: &'static str, source: ProgramError) -> ProbeError {
    ProbeError::Program { program, source }
}

/// Passes the kernel side's rare warnings to this process's log. Without them nothing is lost but
/// the hint: every count behind a warning is in the losses too.
fn forward_log(ebpf: &mut Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => return log::debug!("no kernel-side log: {error}"),
    };
    // SAFETY: the logger owns its ring buffer's descriptor and never changes it.
    match unsafe { AsyncFd::register(logger) } {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut guard) = logger.readable_mut().await {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
            });
        }
        Err(error) => log::debug!("the kernel-side log can't be polled: {error}"),
    }
}
