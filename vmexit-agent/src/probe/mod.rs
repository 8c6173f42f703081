//! The eBPF programs: loaded, attached, and their maps read into a [`Snapshot`].
//!
//! Everything belongs to this process: when it ends, even by SIGKILL, the kernel detaches and
//! frees it all. Nothing is pinned.

mod call;
pub mod compat;
mod load;
mod object;
pub mod plan;
mod reader;
mod slow;
mod table;
mod vcpu_stats;
mod window;

use std::{collections::BTreeSet, io, time::Duration};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, PerCpuArray, Queue},
    programs::ProgramError,
};
use thiserror::Error;
use vmexit_common::{
    stats::VcpuStats,
    vcpu::{ENTRIES, Loss, VcpuEntry},
};
use vmexit_core::{
    counters::{Snapshot, VcpuReading},
    event::Event,
    timing::Timing,
};

pub use self::{
    call::Call,
    slow::{Slow, SlowExits},
};
use self::{
    load::{Attachment, briefly, forward_log, load, programs},
    plan::AttachPlan,
    reader::StatsHead,
    table::VcpuTable,
    vcpu_stats::StatsBlocks,
    window::Windows,
};
use crate::host::tracefs::LayoutError;

/// FallbackReason tracing could not be started.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel took no map or object.
    #[error("the eBPF object can't be loaded: {0}")]
    Load(#[from] aya::EbpfError),
    /// There are the capabilities, but they count in a user namespace only, or a filter of system calls is before bpf.
    #[error(
        "not permitted, in spite of CAP_BPF and CAP_PERFMON: a container's user namespace or its seccomp profile \
         forbids eBPF; run vmexit on the host itself, or in a container without the one and with \
         `--security-opt seccomp=unconfined`"
    )]
    Forbidden,
    /// The kernel refused a program.
    #[error("the kernel refused the program for {program}: {}", briefly(source))]
    Program {
        /// Which.
        program: &'static str,
        /// What aya or the verifier said.
        source: ProgramError,
    },
    /// A classic tracepoint is out of reach.
    #[error(transparent)]
    Layout(#[from] LayoutError),
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
    /// The ring buffer can't be waited for.
    #[error("exits can't be waited for: {0}")]
    Poll(io::Error),
    /// The table of vCPU threads can't be copied.
    #[error("the table of vCPU threads can't be read: {0}")]
    VcpuTable(io::Error),
}

/// What to trace.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// vCPUs that get a book; the maps' memory is proportional to it.
    pub max_vcpus: u32,
    /// Processes to trace; all if `None`.
    pub pids: Option<BTreeSet<u32>>,
    /// Which exits to time.
    pub timing: Timing,
    /// What to capture besides exits.
    pub events: BTreeSet<Event>,
    /// Whether it changes when it is counted and what is timed: see [`Probe::open`] and [`Probe::time`].
    pub sampled: bool,
    /// Which exits to hand over one by one as they end; all are timed then, whatever `timing` says.
    pub slow: Option<Slow>,
}

impl ProbeOptions {
    /// How many books to make: a map has one entry at least.
    fn stats_blocks(&self) -> u32 {
        self.max_vcpus.max(1)
    }
}

/// Attached programs and their maps.
pub struct Probe {
    vcpus: VcpuTable,
    stats: StatsBlocks,
    /// Whether anybody wants the durations of threads that have ended.
    keeps_durations: bool,
    free: Queue<MapData, u32>,
    loss: PerCpuArray<MapData, Loss>,
    /// Threads that have ended since the last snapshot, and the events of all that ever have.
    ended: Vec<VcpuReading>,
    ended_events: u64,
    /// Whether any of them had an exit.
    ended_exits: bool,
    programs: Vec<Attachment>,
    windows: Windows,
    /// For measuring.
    nothing: Option<Attachment>,
    // Owns programs and links; dropping it detaches.
    ebpf: Ebpf,
}

impl Probe {
    /// Loads and attaches. From here on everything is counted.
    pub fn start(plan: &AttachPlan, options: &ProbeOptions) -> Result<Self, ProbeError> {
        let mut programs = programs(plan, options);
        let nothing = options.sampled.then(|| call::nothing(plan));
        let mut ebpf = load(plan, options, &programs, nothing.as_ref())?;
        forward_log(&mut ebpf);

        let mut free = Queue::<_, u32>::try_from(take(&mut ebpf, "FREE_STATS")?)?;
        for index in 0..options.stats_blocks() {
            free.push(index, 0)?;
        }
        let mut filter = HashMap::<_, u32, u8>::try_from(take(&mut ebpf, "VMS")?)?;
        for &pid in options.pids.iter().flatten() {
            filter.insert(pid, 1, 0)?;
        }
        let vcpus = VcpuTable::new(take(&mut ebpf, ".bss.vcpus")?)?;
        let stats = StatsBlocks::new(take(&mut ebpf, "VCPU_STATS")?, options.stats_blocks())?;
        let loss = PerCpuArray::try_from(take(&mut ebpf, "LOSS")?)?;

        for program in &mut programs {
            program.attach(&mut ebpf)?;
        }
        let mut windows = Windows::new(take(&mut ebpf, ".data.sampler")?, options)?;
        if options.sampled {
            windows.open()?;
        }
        Ok(Self {
            windows,
            nothing,
            vcpus,
            stats,
            keeps_durations: options.slow.is_none(),
            free,
            loss,
            ended: Vec::new(),
            ended_events: 0,
            ended_exits: false,
            programs,
            ebpf,
        })
    }

    /// What has been counted so far; with durations where `in_view` says so of a process. Neither stops nor
    /// clears anything; threads that have ended since the last snapshot are in this one and in none after.
    pub fn snapshot(&mut self, in_view: impl Fn(u32) -> bool) -> Result<Snapshot, ProbeError> {
        // Before the books: what is beyond these counts has come since.
        let exits = self.vcpus.exits_by_stats_block().map_err(ProbeError::VcpuTable)?;
        let mut snapshot = self.nothing_yet();
        self.for_each_block(|stats, index, header| {
            let exits = exits.get(&index).copied().unwrap_or(0);
            let (reading, torn) = if in_view(header.thread().pid) {
                reader::read(&stats.open(index)?, exits)
            } else {
                reader::read_counts(stats.counters(index), exits)
            };
            snapshot.torn += u64::from(torn);
            snapshot.vcpus.push(reading);
            Ok(())
        })?;
        snapshot.vcpus.append(&mut self.ended);
        snapshot.loss = self.loss()?;
        for program in &self.programs {
            snapshot.missed.insert(program.tracepoint, program.missed(&self.ebpf).unwrap_or(0));
        }
        Ok(snapshot)
    }

    /// The rows as they are now, without durations, and without exits that are open: cheap enough for each
    /// second. Threads that have ended are in this one, and all the same in the next snapshot.
    ///
    /// # Errors
    /// A book can't be mapped or returned.
    pub fn glance(&mut self) -> Result<Snapshot, ProbeError> {
        let mut snapshot = self.nothing_yet();
        self.for_each_block(|stats, index, _| {
            let (reading, torn) = reader::read_counts(stats.counters(index), 0);
            snapshot.torn += u64::from(torn);
            snapshot.vcpus.push(reading);
            Ok(())
        })?;
        snapshot.vcpus.extend(self.ended.iter().cloned().map(VcpuReading::without_durations));
        Ok(snapshot)
    }

    /// A snapshot of now, before anything is read.
    fn nothing_yet(&self) -> Snapshot {
        let at_ns = now_ns();
        Snapshot { at_ns, unwatched_ns: self.windows.unwatched_ns(at_ns), ..Snapshot::default() }
    }

    /// Times this share of the exits from now on, of those that a probe with [`ProbeOptions::sampled`] counts.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn time(&mut self, share: u32) -> Result<(), ProbeError> {
        self.windows.time(share)
    }

    /// Counts from now on, if nothing was counted.
    ///
    /// # Errors
    /// A program can't be attached; the kernel wants the same capabilities for it as at first.
    pub fn open(&mut self) -> Result<(), ProbeError> {
        if !self.windows.is_open() {
            for program in self.programs.iter_mut().filter(|program| !program.is_attached()) {
                program.attach(&mut self.ebpf)?;
            }
            self.windows.open()?;
        }
        Ok(())
    }

    /// Counts nothing from now on until it is opened again. Programs for exits and for what is `busy` are detached, and
    /// cost nothing; others are still called, to no avail.
    ///
    /// # Errors
    /// A program can't be detached.
    pub fn shut(&mut self, busy: &BTreeSet<Event>) -> Result<(), ProbeError> {
        if self.windows.is_open() {
            self.windows.shut()?;
            for program in self.programs.iter_mut().filter(|program| !program.stays(busy)) {
                program.detach(&mut self.ebpf)?;
            }
        }
        Ok(())
    }

    /// Measures what the kernel takes to call a program; 0 of a probe that is not sampled.
    ///
    /// # Errors
    /// The program can't be attached or detached.
    pub fn measure_call(&mut self) -> Result<Call, ProbeError> {
        match &mut self.nothing {
            Some(nothing) => call::measure(nothing, &mut self.ebpf),
            None => Ok(Call::default()),
        }
    }

    /// How long its programs have run while the kernel's statistics were on, and how often.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn run(&self) -> Result<(Duration, u64), ProbeError> {
        let mut sum = (Duration::ZERO, 0);
        for program in &self.programs {
            let (time, count) = program.run(&self.ebpf)?;
            sum = (sum.0 + time, sum.1 + count);
        }
        Ok(sum)
    }

    /// The exits that [`ProbeOptions::slow`] asks for. Once: they are in one buffer.
    ///
    /// # Errors
    /// The buffer is in somebody's hands already, or can't be mapped or polled.
    pub fn slow_exits(&mut self) -> Result<SlowExits, ProbeError> {
        SlowExits::new(take(&mut self.ebpf, slow::MAP)?)
    }

    /// What could not be noted on a vCPU since tracing began, over all CPUs.
    pub fn loss(&self) -> Result<Loss, ProbeError> {
        let by_cpu = self.loss.get(&0, 0)?;
        Ok(by_cpu.iter().fold(Loss::default(), |sum, one| sum.with(one, |sum, one| sum + one)))
    }

    /// How it goes, cheap enough for a progress line. To be called now and then between snapshots, for the
    /// threads that have ended give their books to new ones then.
    pub fn progress(&mut self) -> Result<Progress, ProbeError> {
        let mut progress = Progress::default();
        self.for_each_block(|stats, index, header| {
            progress.pids.insert(header.thread().pid);
            progress.events += header.events();
            progress.exits |= stats.has_exits(index);
            Ok(())
        })?;
        progress.events += self.ended_events;
        progress.exits |= self.ended_exits;
        Ok(progress)
    }

    /// Looks at the books that somebody has; those of threads that have ended are read for the last time
    /// and returned to the free ones.
    fn for_each_block(
        &mut self,
        mut live: impl FnMut(&StatsBlocks, usize, &StatsHead) -> Result<(), ProbeError>,
    ) -> Result<(), ProbeError> {
        for index in 0..self.stats.len() {
            let header = StatsHead::read(self.stats.counters(index));
            if header.has_ended() {
                // Nobody writes it any more.
                let stats = self.stats.open(index)?;
                let (reading, _) = if self.keeps_durations {
                    reader::read(&stats, 0)
                } else {
                    reader::read_counts(self.stats.counters(index), 0)
                };
                self.ended_events += header.events();
                self.ended_exits |= self.stats.has_exits(index);
                self.ended.push(reading);
                stats.clear();
                self.free.push(index as u32, 0)?;
            } else if header.is_used() {
                live(&self.stats, index, &header)?;
            }
        }
        Ok(())
    }
}

/// What has been seen since tracing began.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Processes whose vCPU threads have a book.
    pub pids: BTreeSet<u32>,
    /// Exits of all vCPUs, or other events where KVM reports no exits.
    pub events: u64,
    /// Whether KVM has reported an exit.
    pub exits: bool,
}

/// The kernel-side clock, `CLOCK_MONOTONIC`: nanoseconds.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Kernel memory that the maps take for so many vCPUs, in bytes, whatever the guests do. None of it
/// grows with the host's CPUs but the few bytes of the loss counters.
pub fn memory(max_vcpus: u32) -> u64 {
    let each = size_of::<VcpuStats>() + size_of::<u32>();
    (ENTRIES * size_of::<VcpuEntry>()) as u64 + u64::from(max_vcpus) * each as u64
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProbeError> {
    ebpf.take_map(name).ok_or(ProbeError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_vcpus_fit_in_256_mib() {
        assert!(memory(2_000) <= 256 << 20, "{} bytes", memory(2_000));
    }
}
