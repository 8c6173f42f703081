//! The eBPF programs: loaded, attached, and their maps read into a [`Snapshot`].
//!
//! Everything belongs to this process: when it ends, even by SIGKILL, the kernel detaches and
//! frees it all. Nothing is pinned.

pub mod compat;
mod mapping;
pub mod plan;
mod reader;
mod timing;

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, MapError, PerCpuArray, Queue},
    programs::{Program, ProgramError},
};
use aya_log::EbpfLogger;
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use vmexit_common::{
    book::Book,
    vcpu::{ENTRIES_PER_BOOK, Loss, Vcpu},
};

pub use self::timing::Timing;
use self::{
    compat::TRACEPOINTS,
    mapping::Mapping,
    plan::{Plan, Way},
};
use crate::snapshot::Snapshot;

/// Why tracing could not be started.
#[derive(Debug, Error)]
pub enum ProbeError {
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
    #[error("the kernel refused the program for kvm:{program}: {}", briefly(source))]
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
    /// Which exits to time.
    pub timing: Timing,
}

/// Attached programs and their maps.
pub struct Probe {
    vcpus: Mapping<Vcpu>,
    books: Mapping<Book>,
    loss: PerCpuArray<MapData, Loss>,
    programs: Vec<Attachment>,
    // Owns programs and links; dropping it detaches.
    ebpf: Ebpf,
}

/// The eBPF object, built with the agent.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vmexit-ebpf"));

impl Probe {
    /// Loads and attaches. From here on everything is counted.
    pub fn start(plan: &Plan, options: &Options) -> Result<Self, ProbeError> {
        let (entries, books) = sizes(options.max_vcpus);
        let pids = options.pids.iter().flatten().copied();
        let (vcpu_mask, filter) = (entries - 1, u8::from(options.pids.is_some()));
        let timing_share = options.timing.share();
        let mut loader = EbpfLoader::new();
        match &plan.exit {
            Way::Raw(layout) => loader.override_global("RAW_EXIT_LAYOUT", layout, true),
            Way::Classic(layout, _) => loader.override_global("EXIT_LAYOUT", layout, true),
        };
        if let Ok(Way::Classic(layout, _)) = &plan.pio {
            loader.override_global("PIO_LAYOUT", layout, true);
        }
        let mut ebpf = loader
            .override_global("VCPU_MASK", &vcpu_mask, true)
            .override_global("FILTER", &filter, true)
            .override_global("TIMING_SHARE", &timing_share, true)
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
        let programs = programs(plan, options.timing);
        for program in &programs {
            program.load(&mut ebpf)?;
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

        for program in &programs {
            program.attach(&mut ebpf)?;
        }
        Ok(Self { vcpus, books, loss, programs, ebpf })
    }

    /// What has been counted so far. Neither stops nor clears anything.
    pub fn snapshot(&self) -> Result<Snapshot, ProbeError> {
        let mut snapshot = reader::read(&self.vcpus, &self.books);
        for loss in self.loss.get(&0, 0)?.iter() {
            snapshot.loss.no_vcpu_entry += loss.no_vcpu_entry;
            snapshot.loss.unreadable += loss.unreadable;
        }
        for program in &self.programs {
            snapshot.missed.insert(program.tracepoint, program.missed(&self.ebpf).unwrap_or(0));
        }
        Ok(snapshot)
    }

    /// Processes whose vCPUs have been seen so far.
    pub fn pids(&self) -> BTreeSet<u32> {
        reader::pids(&self.vcpus)
    }

    /// Events counted so far, over all vCPUs: cheap enough for a progress line.
    pub fn events_seen(&self) -> u64 {
        reader::events_seen(&self.vcpus)
    }
}

/// The verifier's log ends with the reason, some lines before its statistics; the whole of it has
/// thousands of lines and is in the debug log.
fn briefly(source: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = source else {
        return source.to_string();
    };
    let log = verifier_log.to_string();
    log::debug!("{log}");
    let statistics = ["verification time", "stack depth", "processed "];
    let reason =
        log.lines().rev().map(str::trim).find(|line| {
            !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
        });
    format!("{io_error}: {}", reason.unwrap_or("the verifier says nothing"))
}

/// Whether the kernel refused for want of rights, somewhere down the chain of causes.
fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::PermissionDenied) || error.source().is_some_and(is_forbidden)
}

/// Entries and books for so many vCPUs.
fn sizes(max_vcpus: u32) -> (u32, u32) {
    let books = max_vcpus.max(1);
    ((books * ENTRIES_PER_BOOK).next_power_of_two(), books)
}

/// Kernel memory that the maps take for so many vCPUs, in bytes, whatever the guests do. None of it
/// grows with the host's CPUs but the few bytes of the loss counters.
pub fn memory(max_vcpus: u32) -> u64 {
    let (entries, books) = sizes(max_vcpus);
    let values = |number: u32, size: usize| u64::from(number) * size as u64;
    values(entries, size_of::<Vcpu>())
        + values(books, size_of::<Book>())
        + values(books, size_of::<u32>())
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProbeError> {
    ebpf.take_map(name).ok_or(ProbeError::Missing(name))
}

/// One program of the object and the tracepoint that it is for.
struct Attachment {
    tracepoint: &'static str,
    program: &'static str,
}

/// The programs of a plan, in the order to attach them.
fn programs(plan: &Plan, timing: Timing) -> Vec<Attachment> {
    TRACEPOINTS
        .iter()
        .filter_map(|tracepoint| {
            Some(Attachment {
                tracepoint: tracepoint.name,
                program: tracepoint.program(plan, timing)?,
            })
        })
        .collect()
}

impl Attachment {
    fn load(&self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        match self.program(ebpf)? {
            Program::RawTracePoint(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            _ => return Err(ProbeError::Missing(self.program)),
        }
        .map_err(|source| self.refused(source))
    }

    fn attach(&self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        match self.program(ebpf)? {
            Program::RawTracePoint(program) => program.attach(self.tracepoint).map(drop),
            Program::TracePoint(program) => program.attach("kvm", self.tracepoint).map(drop),
            _ => return Err(ProbeError::Missing(self.program)),
        }
        .map_err(|source| self.refused(source))
    }

    fn program<'a>(&self, ebpf: &'a mut Ebpf) -> Result<&'a mut Program, ProbeError> {
        ebpf.program_mut(self.program).ok_or(ProbeError::Missing(self.program))
    }

    /// Events that the kernel did not run it for (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c); from
    /// Linux 5.12 on, for classic tracepoints from 6.8.
    fn missed(&self, ebpf: &Ebpf) -> Option<u64> {
        let fd = ebpf.program(self.program)?.fd().ok()?.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
        misses.trim().parse().ok()
    }

    fn refused(&self, source: ProgramError) -> ProbeError {
        ProbeError::Program { program: self.tracepoint, source }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_vcpus_fit_in_256_mib() {
        assert!(memory(2_000) <= 256 << 20, "{} bytes", memory(2_000));
    }
}
