//! Loading the eBPF object and attaching the programs of a plan.

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
use tokio::{io::unix::AsyncFd, time::sleep};
use vmexit_common::{
    layout::RawExitLayout,
    slow::{BUFFER_BYTES, UNUSED_BYTES},
};
use vmexit_core::escape;

use super::{
    Event, ProbeError, ProbeOptions, RunStats, SlowFilter, object,
    plan::{AttachPlan, Cast, ReadPath},
    slow,
    tracepoints::{TRACEPOINTS, Tracepoint},
};
use crate::host::tracefs::Tracefs;

/// Maximum width of the verifier's reason in a message, columns.
const WIDEST_REASON: usize = 300;

/// Pause between two readings of the eBPF programs' log. What its ring buffer does not hold is dropped in the kernel.
const LOG_PAUSE: Duration = Duration::from_millis(500);

/// A program of the object and its tracepoint.
pub(super) struct Attachment {
    group: &'static str,
    pub(super) tracepoint: &'static str,
    /// Event that needs the program; `None` if every capture does.
    event: Option<Event>,
    program: &'static str,
    /// `None` while the program is detached.
    link: Option<Link>,
}

/// Link between a program and its tracepoint.
enum Link {
    Raw(RawTracePointLinkId),
    Classic(TracePointLinkId),
}

/// Programs of a plan, in the order to attach them.
pub(super) fn programs(plan: &AttachPlan, options: &ProbeOptions) -> Vec<Attachment> {
    TRACEPOINTS
        .iter()
        .filter(|tracepoint| tracepoint.event.is_none_or(|event| options.events.contains(&event)))
        .filter_map(|tracepoint| {
            let program = tracepoint.program(is_raw(tracepoint, plan)?, options)?;
            let attachment = Attachment::new(tracepoint.group, tracepoint.name, program);
            Some(Attachment { event: tracepoint.event, ..attachment })
        })
        .collect()
}

/// Whether the plan reads the raw tracepoint; `None` if it can't read the tracepoint at all.
fn is_raw(tracepoint: &Tracepoint, plan: &AttachPlan) -> Option<bool> {
    Some(match tracepoint.name {
        "kvm_entry" => plan.entry.is_raw(),
        "kvm_exit" => plan.exit.is_raw(),
        name if tracepoint.fields.is_some() => plan.details.get(name)?.as_ref().ok()?.is_raw(),
        _ => true,
    })
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

    /// Detaches the program, which costs nothing until it is attached again.
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        let detached = match (self.link.take(), self.program(ebpf)?) {
            (Some(Link::Raw(link)), Program::RawTracePoint(program)) => program.detach(link),
            (Some(Link::Classic(link)), Program::TracePoint(program)) => program.detach(link),
            _ => Ok(()),
        };
        detached.map_err(|source| self.refused(source))
    }

    /// Run time and runs of the program, from the kernel's program statistics while those are on.
    pub(super) fn run_stats(&self, ebpf: &Ebpf) -> Result<RunStats, ProbeError> {
        let program = ebpf.program(self.program).ok_or(ProbeError::Missing(self.program))?;
        let info = program.info().map_err(|source| self.refused(source))?;
        Ok(RunStats { time: info.run_time(), runs: info.run_count() })
    }

    pub(super) fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// Whether the program stays attached between windows: threads end at any time, and programs for rare events
    /// cost less than detaching and attaching them.
    pub(super) fn stays_attached(&self, busy: &BTreeSet<Event>) -> bool {
        self.group == "sched" || self.event.is_some_and(|event| !busy.contains(&event))
    }

    fn program<'a>(&self, ebpf: &'a mut Ebpf) -> Result<&'a mut Program, ProbeError> {
        ebpf.program_mut(self.program).ok_or(ProbeError::Missing(self.program))
    }

    /// Events missed because the program was running already on that CPU (`bpf_prog_show_fdinfo`,
    /// kernel/bpf/syscall.c). Counted since Linux 5.12, for classic tracepoints since 6.8.
    pub(super) fn missed(&self, ebpf: &Ebpf) -> Option<u64> {
        let fd = ebpf.program(self.program)?.fd().ok()?.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
        misses.trim().parse().ok()
    }

    fn refused(&self, source: ProgramError) -> ProbeError {
        // aya reads the ID of a classic tracepoint from tracefs each time.
        match (&source, Tracefs::find()) {
            (ProgramError::TracePointError(_), Err(gone)) => gone.into(),
            _ => ProbeError::Program { program: self.tracepoint, source },
        }
    }
}

/// Loads the object and the programs of a plan. If the kernel refuses programs with plain loads from its structs, loads
/// programs without such loads instead.
///
/// # Errors
/// The kernel refuses the object or a program, or the object lacks one.
pub(super) fn load(
    plan: &AttachPlan,
    options: &ProbeOptions,
    programs: &[Attachment],
    empty_program: Option<&Attachment>,
) -> Result<Ebpf, ProbeError> {
    let attempt = |cast: Option<Cast>| -> Result<Ebpf, ProbeError> {
        let mut ebpf = load_object(plan, options, cast)?;
        // Loaded programs hold their maps. A map taken out of `ebpf` before would be closed when its handle is dropped.
        for program in programs.iter().chain(empty_program) {
            program.load(&mut ebpf)?;
        }
        Ok(ebpf)
    };
    match attempt(plan.cast) {
        Err(error @ ProbeError::Program { .. }) if plan.cast.is_some() => {
            log::warn!("using a helper instead of plain loads, so each exit costs more: {error}");
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
    // Each global has the name of its tracepoint, in upper case.
    let globals: Vec<_> =
        plan.details.iter().map(|(name, path)| (name.to_uppercase(), path)).collect();
    let limits = options.slow.as_ref().map(SlowFilter::limits).unwrap_or_default();
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
    for (global, path) in &globals {
        if let Ok(ReadPath::Classic(layout, _)) = path {
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

/// Forwards warnings of the eBPF programs to the log. They are hints only: every event that a warning is about is
/// counted as lost too.
pub(super) fn forward_log(ebpf: &mut Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => return log::debug!("the log of the eBPF programs can't be read: {error}"),
    };
    // SAFETY: the logger owns its ring buffer's descriptor and never changes it.
    match unsafe { AsyncFd::register(logger) } {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut guard) = logger.readable_mut().await {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                    drop(guard);
                    // Threads that come and go can fill the ring buffer as fast as it is read.
                    sleep(LOG_PAUSE).await;
                }
            });
        }
        Err(error) => log::debug!("the log of the eBPF programs can't be polled: {error}"),
    }
}

/// Error of loading a program, with the verifier's reason: the last line of its log before the statistics. The whole
/// log, thousands of lines, goes to the debug log.
pub(super) fn verifier_error(source: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = source else {
        return source.to_string();
    };
    let log = verifier_log.to_string();
    log::debug!("{log}");
    match last_words(&log) {
        Some(reason) => format!("{io_error}: {}", escape::cut(reason, WIDEST_REASON)),
        None => format!("{io_error}: the verifier gave no reason"),
    }
}

/// Last line of a verifier's log before its statistics (`print_verification_stats`, kernel/bpf/verifier.c): the reason
/// of a refusal.
fn last_words(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    let is_statistic = |line: &&str| {
        STATISTICS.iter().any(|start| line.starts_with(start))
            // Since Linux 7.
            || (line.starts_with("subprog ") && line.contains(" insns_total "))
    };
    let lines = log.lines().map(str::trim).take_while(|line| !is_statistic(line));
    lines.filter(|line| !line.is_empty()).last()
}

/// Whether the chain of causes has EACCES or EPERM.
fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::PermissionDenied) || error.source().is_some_and(is_forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_those_before_statistics() {
        let body = "0: R1=ctx() R10=fp0\n; let x = y; @ exit.rs:1\n9: (85) call bpf_probe_read_kernel#113\n";
        let reason = "program of this type cannot use helper bpf_probe_read_kernel#113";
        let old = "processed 10 insns (limit 1000000) max_states_per_insn 0 total_states 0";
        for statistics in [
            String::new(),
            format!("{old}\n"),
            format!("verification time 51 usec\nstack depth 0+8\n{old}\n\n"),
            // Linux 7.
            format!(
                "verification time 51 usec\n{old}\nsubprog 0 (exit) main insns_self 7 insns_total 9 stack 8\n\
                 subprog 6 (memset) static insns_self 7 insns_total 4149 stack 0\n"
            ),
        ] {
            let log = format!("{body}{reason}\n{statistics}");
            assert_eq!(last_words(&log), Some(reason), "{log}");
        }
        assert_eq!(last_words(""), None);
        assert_eq!(last_words(old), None);
    }
}
