//! Import of other tools' measurements: the text of `perf script` with KVM's events becomes a
//! recording with the counts and times that vmexit's own programs would have collected. The text is
//! streamed, so its length does not matter. It is untrusted: lines, threads and rows are bounded.

mod line;
mod reason;
mod vcpu;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, BufRead},
};

use thiserror::Error;

use self::{
    line::{ParsedEvent, PerfLine},
    vcpu::ImportedVcpu,
};
use crate::{
    counters::Interval,
    escape::safe,
    event::Event,
    host::Host,
    kind,
    measurement::{Measurement, VERSION},
    reason::Names,
    store::check,
    timing::Timing,
    vendor::Vendor,
    vm::{self, Vmm},
};

/// Maximum length of a parsed line, bytes.
const LONGEST_LINE: usize = 4096;
/// Maximum number of threads, the same as in a recording.
const MOST_THREADS: usize = 1 << 16;
/// Maximum number of rows of all threads together; a guest chooses its ports.
const MOST_ROWS: usize = 1 << 20;

/// Reason why a text can't be imported. One sentence, safe to print.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file is perf's binary recording, not text.
    #[error(
        "not text but perf's binary file: convert it with `perf script --header -F +pid --ns -i FILE`"
    )]
    Binary,
    /// The text has no KVM event.
    #[error(
        "no kvm_exit, kvm_entry, kvm_pio, kvm_mmio or kvm_msr in {0} lines: the text must be the output of `perf script`"
    )]
    Nothing(u64),
    /// The events exceed a limit of recordings.
    #[error("not a plausible measurement: {0}")]
    Impossible(&'static str),
    /// The text can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A recording, and counts of what was left out of it.
#[derive(Debug)]
pub struct Imported {
    /// The recording.
    pub recording: Measurement,
    /// Lines that could not be parsed.
    pub unparsed_lines: u64,
    /// The first of these lines, safe to print.
    pub example: Option<String>,
    /// KVM events of other kinds.
    pub ignored_events: u64,
    /// Exits whose reason is unknown; they are counted as `other`.
    pub unknown_reasons: u64,
    /// Whether the trace has process IDs. Without them, all threads count as one VM's.
    pub has_pids: bool,
}

/// Imports the text of `perf script`.
///
/// # Errors
/// The text can't be read, has no KVM event, or exceeds the limits of recordings.
pub fn perf(mut text: impl BufRead) -> Result<Imported, ImportError> {
    let mut trace = Trace { room: MOST_ROWS, ..Trace::default() };
    let mut line = Vec::new();
    while let Some(is_whole) = next_line(&mut text, &mut line)? {
        trace.lines += 1;
        if trace.lines == 1 && line.starts_with(b"PERFILE2") {
            return Err(ImportError::Binary);
        }
        trace.line(&String::from_utf8_lossy(&line), is_whole);
    }
    trace.finish()
}

/// Reads one line, of which at most [`LONGEST_LINE`] bytes are kept. Returns whether the line is
/// complete; `None` at the end of the text.
fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut any, mut is_whole) = (false, true);
    loop {
        let piece = match text.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if piece.is_empty() {
            return Ok(any.then_some(is_whole));
        }
        any = true;
        let end = piece.iter().position(|&byte| byte == b'\n');
        let length = end.unwrap_or(piece.len());
        let kept = length.min(LONGEST_LINE - line.len());
        line.extend_from_slice(&piece[..kept]);
        is_whole &= kept == length;
        text.consume(end.map_or(length, |end| end + 1));
        if end.is_some() {
            return Ok(Some(is_whole));
        }
    }
}

/// State of the import.
#[derive(Default)]
struct Trace {
    lines: u64,
    vcpus: HashMap<u32, ImportedVcpu>,
    room: usize,
    host: TraceHeader,
    /// First and last time, nanoseconds.
    span: Option<(u64, u64)>,
    kinds: BTreeSet<Event>,
    unparsed_lines: u64,
    example: Option<String>,
    ignored_events: u64,
    unknown_reasons: u64,
    /// Events that perf reports as lost (`perf script --show-lost-events`).
    lost: u64,
    /// Exits of threads beyond the limit.
    vcpu_table_full: u64,
    /// Accesses of threads beyond the limit.
    unmatched: u64,
    has_pids: bool,
}

/// Host properties from the header (`perf script --header`).
#[derive(Default)]
struct TraceHeader {
    name: Option<String>,
    kernel: Option<String>,
    cpus: Option<usize>,
    /// Highest CPU number of an event.
    last_cpu: u32,
}

impl Trace {
    fn line(&mut self, line: &str, is_whole: bool) {
        if line.trim().is_empty() {
            return;
        }
        if let Some(header) = line.strip_prefix('#') {
            self.host.header(header);
            return;
        }
        if let Some((_, lost)) =
            line.split_once("PERF_RECORD_LOST").and_then(|(_, rest)| rest.split_once(" lost "))
        {
            self.lost = self.lost.saturating_add(lost.trim().parse().unwrap_or(1));
            return;
        }
        match PerfLine::of(line).filter(|_| is_whole) {
            Some(line) => self.event(&line),
            None => {
                self.unparsed_lines += 1;
                self.example.get_or_insert_with(|| safe(line.trim()));
            }
        }
    }

    fn event(&mut self, line: &PerfLine<'_>) {
        match line.event {
            ParsedEvent::Other => {
                self.ignored_events += 1;
                return;
            }
            ParsedEvent::Exit { code: None, .. } => self.unknown_reasons += 1,
            ParsedEvent::Access { key, .. } => self.kinds.extend(key.table().map(kind::event)),
            _ => {}
        }
        let (first, last) = self.span.unwrap_or((line.ns, line.ns));
        self.span = Some((first.min(line.ns), last.max(line.ns)));
        self.host.last_cpu = self.host.last_cpu.max(line.cpu.unwrap_or(0));
        self.has_pids |= line.pid.is_some();
        if !self.vcpus.contains_key(&line.tid) && self.vcpus.len() >= MOST_THREADS {
            match line.event {
                ParsedEvent::Exit { .. } => self.vcpu_table_full += 1,
                ParsedEvent::Access { .. } => self.unmatched += 1,
                _ => {}
            }
            return;
        }
        let vcpu = self.vcpus.entry(line.tid).or_insert_with(|| ImportedVcpu::new(line));
        vcpu.apply(line.ns, &line.event, &mut self.room);
    }

    fn finish(self) -> Result<Imported, ImportError> {
        let Some((first, last)) = self.span else { return Err(ImportError::Nothing(self.lines)) };
        let vms = vms(self.vcpus.values());
        let mut interval = Interval { span_ns: last - first, ..Interval::default() };
        interval.loss.vcpu_table_full = self.vcpu_table_full;
        interval.loss.unmatched = self.unmatched;
        if self.lost > 0 {
            interval.missed.insert("perf".into(), self.lost);
        }
        interval.vcpus = self.vcpus.into_iter().map(|(tid, vcpu)| vcpu.finish(tid)).collect();
        interval.vcpus.sort_by_key(|vcpu| (vcpu.thread.pid, vcpu.thread.tid));
        let vendor = interval.vcpus.iter().find_map(|vcpu| Vendor::of_isa(vcpu.isa));
        let mut events = self.kinds;
        events.insert(Event::Vmexit);
        let recording = Measurement {
            began: None,
            version: VERSION.into(),
            host: self.host.host(vendor),
            start: None,
            interrupted: false,
            timing: Timing::All,
            sampling: None,
            events,
            reasons: Names::default(),
            vms,
            maps: BTreeMap::new(),
            interval,
            steps: Vec::new(),
        }
        .with_reasons(&Names::default());
        check(&recording).map_err(ImportError::Impossible)?;
        Ok(Imported {
            recording,
            unparsed_lines: self.unparsed_lines,
            example: self.example,
            ignored_events: self.ignored_events,
            unknown_reasons: self.unknown_reasons,
            has_pids: self.has_pids,
        })
    }
}

/// The VMs of these threads. A thread has the name of its program unless the VMM names it by vCPU.
fn vms<'a>(vcpus: impl Iterator<Item = &'a ImportedVcpu>) -> Vec<vm::Vm> {
    let mut vms: BTreeMap<u32, vm::Vm> = BTreeMap::new();
    for vcpu in vcpus {
        let vmm = Vmm::of_thread(&vcpu.comm);
        let vm = vms.entry(vcpu.pid).or_insert_with(|| vm::Vm {
            pid: vcpu.pid,
            name: if vcpu.pid == 0 { "perf".into() } else { vm::fallback_name(vcpu.pid) },
            ..vm::Vm::default()
        });
        vm.vcpus += 1;
        if vm.vmm == Vmm::Other {
            vm.vmm = vmm;
        }
    }
    vms.into_values().collect()
}

impl TraceHeader {
    fn header(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match name.trim() {
            "hostname" => self.name = Some(value.to_owned()),
            "os release" => self.kernel = Some(value.to_owned()),
            "nrcpus online" => self.cpus = value.parse().ok(),
            _ => {}
        }
    }

    fn host(self, vendor: Option<Vendor>) -> Host {
        let unknown = || "unknown".to_owned();
        Host {
            name: self.name.unwrap_or_else(unknown),
            kernel: self.kernel.unwrap_or_else(unknown),
            cpus: self.cpus.unwrap_or(self.last_cpu as usize + 1),
            vendor,
            kvm_module: None,
        }
    }
}
