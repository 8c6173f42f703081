//! The eBPF programs: loading, attaching, and reading their maps into a [`Snapshot`].
//!
//! Programs and maps belong to this process and are not pinned: the kernel detaches and frees them when the process
//! ends, even by SIGKILL.

mod call;
mod load;
mod object;
pub mod plan;
mod reader;
mod slow;
mod table;
pub mod tracepoints;
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
    call::CallCost,
    slow::{SlowExits, SlowFilter},
};
use self::{
    load::{Attachment, forward_log, load, programs, verifier_error},
    plan::AttachPlan,
    reader::StatsHead,
    table::VcpuTable,
    vcpu_stats::StatsBlocks,
    window::Windows,
};
use crate::host::tracefs::LayoutError;

/// Error of loading, attaching or reading the eBPF programs.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel refused a map or the object.
    #[error("the eBPF object can't be loaded: {0}")]
    Load(#[from] aya::EbpfError),
    /// The process has the capabilities, but in a user namespace, or a seccomp filter forbids `bpf(2)`.
    #[error(
        "not permitted, although this process has CAP_BPF and CAP_PERFMON: a container's user namespace or seccomp profile \
         forbids eBPF; run vmexit on the host itself, or in a container without a user namespace and with \
         `--security-opt seccomp=unconfined`"
    )]
    Forbidden,
    /// The kernel refused a program.
    #[error("the kernel refused the program for {program}: {}", verifier_error(source))]
    Program {
        /// Tracepoint of the program.
        program: &'static str,
        /// Error of aya, with the verifier's log.
        source: ProgramError,
    },
    /// A classic tracepoint can't be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A map operation failed.
    #[error("an eBPF map can't be used: {0}")]
    Map(#[from] MapError),
    /// The object lacks a map or program, because it was built from other sources.
    #[error("the eBPF object has no {0}: rebuild vmexit")]
    Missing(&'static str),
    /// A map can't be mapped into memory.
    #[error("the eBPF map {name} can't be mapped (Linux 5.5 or later is needed): {source}")]
    Mmap {
        /// Name of the map.
        name: &'static str,
        /// Error of the system call.
        source: io::Error,
    },
    /// The ring buffer of slow exits can't be polled.
    #[error("the ring buffer of slow exits can't be polled: {0}")]
    Poll(io::Error),
    /// The table of vCPU threads can't be copied.
    #[error("the table of vCPU threads can't be read: {0}")]
    VcpuTable(io::Error),
}

/// Options of a probe.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Number of per-vCPU stats blocks; the memory of the maps is proportional to it.
    pub max_vcpus: u32,
    /// Process IDs of the VMMs to trace; `None` for all.
    pub pids: Option<BTreeSet<u32>>,
    /// Share of exits to time.
    pub timing: Timing,
    /// Events to capture besides exits by reason.
    pub events: BTreeSet<Event>,
    /// Whether windows and the timing share can change while the probe runs: see [`Probe::open_window`] and
    /// [`Probe::set_timing_share`].
    pub sampled: bool,
    /// Exits to report one by one; all exits are timed then, regardless of `timing`.
    pub slow: Option<SlowFilter>,
}

impl ProbeOptions {
    /// Number of stats blocks: a map needs at least one entry.
    fn stats_blocks(&self) -> u32 {
        self.max_vcpus.max(1)
    }
}

/// Attached programs and their maps. Dropping it detaches them.
pub struct Probe {
    vcpus: VcpuTable,
    stats: StatsBlocks,
    /// Whether snapshots include the durations of threads that have ended.
    keeps_durations: bool,
    free: Queue<MapData, u32>,
    loss: PerCpuArray<MapData, Loss>,
    /// Last readings of threads that have ended since the last snapshot.
    ended: Vec<VcpuReading>,
    /// Events of all threads that have ended.
    ended_events: u64,
    /// Whether any thread that has ended had an exit.
    ended_exits: bool,
    programs: Vec<Attachment>,
    windows: Windows,
    /// Program for [`Probe::measure_call`].
    empty_program: Option<Attachment>,
    // Owns the programs and their links.
    ebpf: Ebpf,
}

impl Probe {
    /// Loads and attaches the programs of a plan. They count from now on.
    ///
    /// # Errors
    /// The kernel refuses a map or a program, or a map can't be mapped.
    pub fn start(plan: &AttachPlan, options: &ProbeOptions) -> Result<Self, ProbeError> {
        let mut programs = programs(plan, options);
        let empty_program = options.sampled.then(|| call::empty_program(plan));
        let mut ebpf = load(plan, options, &programs, empty_program.as_ref())?;
        forward_log(&mut ebpf);

        let mut free = Queue::<_, u32>::try_from(take_map(&mut ebpf, "FREE_STATS")?)?;
        for index in 0..options.stats_blocks() {
            free.push(index, 0)?;
        }
        let mut filter = HashMap::<_, u32, u8>::try_from(take_map(&mut ebpf, "VMS")?)?;
        for &pid in options.pids.iter().flatten() {
            filter.insert(pid, 1, 0)?;
        }
        let vcpus = VcpuTable::new(take_map(&mut ebpf, ".bss.vcpus")?)?;
        let stats = StatsBlocks::new(take_map(&mut ebpf, "VCPU_STATS")?, options.stats_blocks())?;
        let loss = PerCpuArray::try_from(take_map(&mut ebpf, "LOSS")?)?;

        for program in &mut programs {
            program.attach(&mut ebpf)?;
        }
        let mut windows = Windows::new(take_map(&mut ebpf, ".data.sampler")?, options)?;
        if options.sampled {
            windows.open()?;
        }
        Ok(Self {
            windows,
            empty_program,
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

    /// Counters since the start, with durations of the process IDs for which `with_durations` is true. Reading stops
    /// and clears nothing. Threads that have ended since the last snapshot are in this one and in no later one.
    ///
    /// # Errors
    /// A map can't be read or mapped.
    pub fn snapshot(
        &mut self,
        with_durations: impl Fn(u32) -> bool,
    ) -> Result<Snapshot, ProbeError> {
        // Read before the stats blocks: exits that begin later must not count as in flight.
        let exits = self.vcpus.exits_by_stats_block().map_err(ProbeError::VcpuTable)?;
        let mut snapshot = self.empty_snapshot();
        self.for_each_block(|stats, index, header| {
            let exits = exits.get(&index).copied().unwrap_or(0);
            let (reading, torn) = if with_durations(header.thread().pid) {
                reader::read(&stats.map_full(index)?, exits)
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

    /// A snapshot with the current time and no vCPUs.
    fn empty_snapshot(&self) -> Snapshot {
        let at_ns = now_ns();
        Snapshot { at_ns, unwatched_ns: self.windows.unwatched_ns(at_ns), ..Snapshot::default() }
    }

    /// Sets the share of exits to time, in units of 2^-32. The probe needs [`ProbeOptions::sampled`].
    ///
    /// # Errors
    /// The map can't be written.
    pub fn set_timing_share(&mut self, share: u32) -> Result<(), ProbeError> {
        self.windows.set_share(share)
    }

    /// Opens a window: attaches the programs again and counts from now on. Does nothing while one is open.
    ///
    /// # Errors
    /// A program can't be attached, which needs the same capabilities as at the start.
    pub fn open_window(&mut self) -> Result<(), ProbeError> {
        if !self.windows.is_open() {
            for program in self.programs.iter_mut().filter(|program| !program.is_attached()) {
                program.attach(&mut self.ebpf)?;
            }
            self.windows.open()?;
        }
        Ok(())
    }

    /// Closes the window: counts nothing until the next one. Programs for exits and for `busy` events are detached
    /// and cost nothing; the others are still called, but return at once.
    ///
    /// # Errors
    /// A program can't be detached.
    pub fn close_window(&mut self, busy: &BTreeSet<Event>) -> Result<(), ProbeError> {
        if self.windows.is_open() {
            self.windows.close()?;
            for program in self.programs.iter_mut().filter(|program| !program.stays_attached(busy))
            {
                program.detach(&mut self.ebpf)?;
            }
        }
        Ok(())
    }

    /// Measures the cost of calling an empty program; 0 without [`ProbeOptions::sampled`].
    ///
    /// # Errors
    /// The program can't be attached or detached.
    pub fn measure_call(&mut self) -> Result<CallCost, ProbeError> {
        match &mut self.empty_program {
            Some(empty) => call::measure(empty, &mut self.ebpf),
            None => Ok(CallCost::default()),
        }
    }

    /// Run time and runs of all programs, from the kernel's program statistics while those are on.
    ///
    /// # Errors
    /// The kernel does not return information about a program.
    pub fn run_stats(&self) -> Result<RunStats, ProbeError> {
        let mut sum = RunStats::default();
        for program in &self.programs {
            let stats = program.run_stats(&self.ebpf)?;
            sum.time += stats.time;
            sum.runs += stats.runs;
        }
        Ok(sum)
    }

    /// Stream of the exits that [`ProbeOptions::slow`] selects. Can be called once, as there is one ring buffer.
    ///
    /// # Errors
    /// The buffer was taken before, or can't be mapped or polled.
    pub fn slow_exits(&mut self) -> Result<SlowExits, ProbeError> {
        SlowExits::new(take_map(&mut self.ebpf, slow::MAP)?)
    }

    /// Losses since the start that no stats block has, summed over the CPUs.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn loss(&self) -> Result<Loss, ProbeError> {
        let by_cpu = self.loss.get(&0, 0)?;
        Ok(by_cpu.iter().fold(Loss::default(), |sum, one| sum.with(one, |sum, one| sum + one)))
    }

    /// Events and VMs since the start, cheap enough for a progress line. Also returns stats blocks of threads that
    /// have ended to the free ones, so call it regularly between snapshots that are far apart.
    ///
    /// # Errors
    /// A map can't be read or mapped.
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

    /// Calls `live` for the stats block of each running thread. Stats blocks of threads that have ended are read for
    /// the last time, cleared and returned to the free ones.
    fn for_each_block(
        &mut self,
        mut live: impl FnMut(&StatsBlocks, usize, &StatsHead) -> Result<(), ProbeError>,
    ) -> Result<(), ProbeError> {
        for index in 0..self.stats.len() {
            let header = StatsHead::read(self.stats.counters(index));
            if header.has_ended() {
                // Its thread was the only writer.
                let stats = self.stats.map_full(index)?;
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

/// Run time and runs in the kernel's program statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStats {
    /// Time that the programs ran.
    pub time: Duration,
    /// Number of runs.
    pub runs: u64,
}

/// Events and VMs seen since the start.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Process IDs of VMMs whose vCPU threads have a stats block.
    pub pids: BTreeSet<u32>,
    /// Exits of all vCPUs; other events where KVM reports no exits.
    pub events: u64,
    /// Whether KVM has reported an exit.
    pub exits: bool,
}

/// Time of `CLOCK_MONOTONIC`, the clock of the eBPF programs, in nanoseconds.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Kernel memory of the maps for a number of stats blocks, bytes. It does not depend on the guests, nor on the
/// host's CPUs but for the few bytes of the loss counters.
pub fn memory(max_vcpus: u32) -> u64 {
    let each = size_of::<VcpuStats>() + size_of::<u32>();
    (ENTRIES * size_of::<VcpuEntry>()) as u64 + u64::from(max_vcpus) * each as u64
}

fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProbeError> {
    ebpf.take_map(name).ok_or(ProbeError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_2000_vcpus_is_within_256_mib() {
        assert!(memory(2_000) <= 256 << 20, "{} bytes", memory(2_000));
    }
}
