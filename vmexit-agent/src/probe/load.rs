//! The eBPF object and the programs of a plan: loaded, attached, and what goes wrong with that put into
//! words.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{
        Program, ProgramError, raw_trace_point::RawTracePointLinkId, trace_point::TracePointLinkId,
    },
};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use vmexit_common::{
    layout::RawExitLayout,
    slow::{BUFFER_BYTES, UNUSED_BYTES},
};

use super::{
    Event, ProbeError, ProbeOptions, Slow,
    compat::TRACEPOINTS,
    object,
    plan::{AttachPlan, Cast, ReadPath},
    slow,
};
use crate::host::tracefs::Tracefs;

/// One program of the object and the tracepoint that it is for.
pub(super) struct Attachment {
    group: &'static str,
    pub(super) tracepoint: &'static str,
    /// What it is for, if that can be done without.
    event: Option<Event>,
    program: &'static str,
    /// Nothing while it is detached.
    link: Option<Link>,
}

/// What holds a program at its tracepoint.
enum Link {
    Raw(RawTracePointLinkId),
    Classic(TracePointLinkId),
}

/// The programs of a plan, in the order to attach them.
pub(super) fn programs(plan: &AttachPlan, options: &ProbeOptions) -> Vec<Attachment> {
    TRACEPOINTS
        .iter()
        .filter(|tracepoint| tracepoint.event.is_none_or(|event| options.events.contains(&event)))
        .filter_map(|tracepoint| {
            let program = tracepoint.program(plan, options)?;
            let attachment = Attachment::new(tracepoint.group, tracepoint.name, program);
            Some(Attachment { event: tracepoint.event, ..attachment })
        })
        .collect()
}

impl Attachment {
    pub(super) fn new(
        group: &'static str,
        tracepoint: &'static str,
        program: &'static str,
    ) -> Self {
        Self { group, tracepoint, event: None, program, link: None }
    }

    fn load(&self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        match self.program(ebpf)? {
            Program::RawTracePoint(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            _ => return Err(ProbeError::Missing(self.program)),
        }
        .map_err(|source| self.refused(source))
    }

    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        let link = match self.program(ebpf)? {
            Program::RawTracePoint(program) => program.attach(self.tracepoint).map(Link::Raw),
            Program::TracePoint(program) => {
                program.attach(self.group, self.tracepoint).map(Link::Classic)
            }
            _ => return Err(ProbeError::Missing(self.program)),
        };
        self.link = Some(link.map_err(|source| self.refused(source))?);
        Ok(())
    }

    /// Takes it away from its tracepoint, where it costs nothing then.
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        let detached = match (self.link.take(), self.program(ebpf)?) {
            (Some(Link::Raw(link)), Program::RawTracePoint(program)) => program.detach(link),
            (Some(Link::Classic(link)), Program::TracePoint(program)) => program.detach(link),
            _ => Ok(()),
        };
        detached.map_err(|source| self.refused(source))
    }

    /// How long it has run while the kernel's statistics were on, and how often.
    pub(super) fn run(&self, ebpf: &Ebpf) -> Result<(Duration, u64), ProbeError> {
        let program = ebpf.program(self.program).ok_or(ProbeError::Missing(self.program))?;
        let info = program.info().map_err(|source| self.refused(source))?;
        Ok((info.run_time(), info.run_count()))
    }

    pub(super) fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it stays while no window is open: threads end at any time, and what hardly ever comes costs less
    /// than to take it away and to put it back.
    pub(super) fn stays(&self, busy: &BTreeSet<Event>) -> bool {
        self.group == "sched" || self.event.is_some_and(|event| !busy.contains(&event))
    }

    fn program<'a>(&self, ebpf: &'a mut Ebpf) -> Result<&'a mut Program, ProbeError> {
        ebpf.program_mut(self.program).ok_or(ProbeError::Missing(self.program))
    }

    /// Events that the kernel did not run it for (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c); from
    /// Linux 5.12 on, for classic tracepoints from 6.8.
    pub(super) fn missed(&self, ebpf: &Ebpf) -> Option<u64> {
        let fd = ebpf.program(self.program)?.fd().ok()?.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
        misses.trim().parse().ok()
    }

    fn refused(&self, source: ProgramError) -> ProbeError {
        // A classic tracepoint's number is read from tracefs each time.
        match (&source, Tracefs::find()) {
            (ProgramError::TracePointError(_), Err(gone)) => gone.into(),
            _ => ProbeError::Program { program: self.tracepoint, source },
        }
    }
}

/// Loads the object and a plan's programs: with plain loads from the kernel's structs where it has them,
/// and again without where it refuses them for a reason that nobody has met yet.
pub(super) fn load(
    plan: &AttachPlan,
    options: &ProbeOptions,
    programs: &[Attachment],
    nothing: Option<&Attachment>,
) -> Result<Ebpf, ProbeError> {
    let attempt = |cast: Option<Cast>| -> Result<Ebpf, ProbeError> {
        let mut ebpf = load_object(plan, options, cast)?;
        // Programs hold the maps they use; a map taken out before would be closed with its handle.
        for program in programs.iter().chain(nothing) {
            program.load(&mut ebpf)?;
        }
        Ok(ebpf)
    };
    match attempt(plan.cast) {
        Err(error @ ProbeError::Program { .. }) if plan.cast.is_some() => {
            log::warn!("plain loads do not work here, so each exit costs more: {error}");
            attempt(None)
        }
        result => result,
    }
}

fn load_object(
    plan: &AttachPlan,
    options: &ProbeOptions,
    cast: Option<Cast>,
) -> Result<Ebpf, ProbeError> {
    let (filter, timing_share) = (u8::from(options.pids.is_some()), options.timing.share());
    let filtered = options.pids.as_ref().map_or(0, BTreeSet::len).max(1) as u32;
    // A global goes by its tracepoint's name.
    let globals: Vec<_> =
        plan.details.iter().map(|(name, way)| (name.to_uppercase(), way)).collect();
    let limits = options.slow.as_ref().map(Slow::limits).unwrap_or_default();
    let slow_bytes = if options.slow.is_some() { BUFFER_BYTES } else { UNUSED_BYTES };
    let mut loader = EbpfLoader::new();
    let raw_layout;
    match &plan.exit {
        ReadPath::Raw(layout) => {
            let cast_to = cast.map_or(0, |cast| cast.to.into());
            raw_layout = RawExitLayout { cast_to, ..*layout };
            loader.override_global("RAW_EXIT_LAYOUT", &raw_layout, true)
        }
        ReadPath::Classic(layout, _) => loader.override_global("EXIT_LAYOUT", layout, true),
    };
    match &plan.entry {
        ReadPath::Raw(layout) => loader.override_global("RAW_ENTRY_LAYOUT", layout, true),
        ReadPath::Classic(layout, _) => loader.override_global("KVM_ENTRY", layout, true),
    };
    for (global, way) in &globals {
        if let Ok(ReadPath::Classic(layout, _)) = way {
            loader.override_global(global, layout, true);
        }
    }
    loader
        .override_global("FILTER", &filter, true)
        .override_global("TIMING_SHARE", &timing_share, true)
        .override_global("SLOW_LIMITS", &limits, true)
        .override_global("SAMPLED", &u8::from(options.sampled), true)
        .map_max_entries("VCPU_STATS", options.stats_blocks())
        .map_max_entries("FREE_STATS", options.stats_blocks())
        .map_max_entries("VMS", filtered)
        .map_max_entries(slow::MAP, slow_bytes)
        .load(&object::resolved(cast.map(|cast| cast.function))?)
        .map_err(|error| if is_forbidden(&error) { ProbeError::Forbidden } else { error.into() })
}

/// Passes the kernel side's rare warnings to this process's log. Without them nothing is lost but
/// the hint: every count behind a warning is in the losses too.
pub(super) fn forward_log(ebpf: &mut Ebpf) {
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

/// The verifier's log ends with the reason, some lines before its statistics; the whole of it has
/// thousands of lines and is in the debug log.
pub(super) fn briefly(source: &ProgramError) -> String {
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
