//! State of a vCPU thread between tracepoints, and counters of the exits that have no such state.
//! Together they account for every exit: `observed = recorded + in flight + lost`.
//!
//! The entries form a hash table with open addressing. Its key is the address of the thread's
//! `task_struct`, the one identity that a program gets without calling a helper. An entry lives as long
//! as its thread. The thread is the only writer of its entry and of the
//! [`VcpuStats`](crate::stats::VcpuStats) block that the entry points to, so only the claim of a free
//! entry is atomic.

/// Entries of the table, a power of two. The table is a single value of a map, so that programs reach it
/// by its address and without a lookup. That makes its size a constant.
pub const ENTRIES: usize = 1 << 14;
/// Most vCPU threads that are certain to find an entry: a quarter of the table, which keeps probe
/// sequences short.
pub const MAX_VCPUS: u32 = ENTRIES as u32 / 4;
/// Length of a thread's probe sequence: its home entry and the entries after it. Bounds the search for
/// the verifier.
pub const PROBES: usize = 16;

/// [`VcpuEntry::state`] of a thread whose exits are recorded.
pub const READY: u32 = 0;
/// [`VcpuEntry::state`] from the claim of the entry to the thread's first exit.
pub const NEW: u32 = 1;
/// [`VcpuEntry::state`] of a thread that found no free stats block; it tries again at each exit.
pub const NO_STATS: u32 = 2;
/// [`VcpuEntry::state`] of a thread that the filter excludes.
pub const IGNORED: u32 = 3;

/// Sentinel in [`VcpuEntry::exit_ns`]: the entry is not [`READY`].
pub const NOT_READY: u64 = 1;
/// Sentinel in [`VcpuEntry::exit_ns`] of an untimed exit in flight, while no windows are used.
pub const UNTIMED: u64 = 2;
/// Number of a vCPU if the kernel's tracepoint does not report it.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// State of one vCPU thread. All timestamps are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct VcpuEntry {
    /// Address of the thread's `task_struct`; 0 while the entry is free.
    pub task: u64,
    /// Timestamp of the exit in flight, or a sentinel. 0: none is in flight, the guest runs.
    /// [`NOT_READY`]: see `state`; sharing the field makes one comparison enough for a ready entry. An
    /// untimed exit has [`UNTIMED`], or the start of its window
    /// ([`window_start_ns`](crate::sampler::SamplerControl::window_start_ns)).
    pub exit_ns: u64,
    /// Exits seen, with the one in flight.
    pub exits: u64,
    /// [`Key`](crate::key::Key) of the detail of the exit in flight; 0 before a tracepoint reports one.
    pub detail: u64,
    /// [`Key`](crate::key::Key) of the reason of the exit in flight.
    pub reason: u64,
    /// Index of the thread's stats block.
    pub stats_index: u32,
    /// State of the entry: [`READY`], [`NEW`], [`NO_STATS`] or [`IGNORED`].
    pub state: u32,
    /// Timestamp of the return to userspace of the exit in flight, or [`UNTIMED`]; 0 if there was none.
    pub user_ns: u64,
    /// [`Key`](crate::key::Key) of the reason for that return; an earlier exit's if there was none.
    pub user: u64,
}

/// Loss counters by cause, per CPU: events that found no stats block or no reason, and slow exits without
/// a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(serde::Deserialize, serde::Serialize), serde(default))]
#[repr(C)]
pub struct Loss {
    /// Exits of threads that found no free entry in the table.
    #[cfg_attr(feature = "user", serde(alias = "no_vcpu_entry"))]
    pub vcpu_table_full: u64,
    /// Exits of threads that found no free stats block.
    #[cfg_attr(feature = "user", serde(alias = "no_book"))]
    pub vcpu_limit: u64,
    /// Exits whose reason could not be read.
    pub unreadable: u64,
    /// Unmatched events of threads that found no free stats block.
    #[cfg_attr(feature = "user", serde(alias = "stray"))]
    pub unmatched: u64,
    /// Slow exits that found the ring buffer full; they are recorded in the stats block all the same.
    pub slow: u64,
}

impl Loss {
    /// Combination of both cause by cause: a sum, a difference.
    pub fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            vcpu_table_full: combine(self.vcpu_table_full, other.vcpu_table_full),
            vcpu_limit: combine(self.vcpu_limit, other.vcpu_limit),
            unreadable: combine(self.unreadable, other.unreadable),
            unmatched: combine(self.unmatched, other.unmatched),
            slow: combine(self.slow, other.slow),
        }
    }
}

/// Vendor of exit codes: Intel (`arch/x86/include/uapi/asm/vmx.h`). The kernel's `KVM_ISA_VMX`.
pub const ISA_VMX: u32 = 1;
/// Vendor of exit codes: AMD (`arch/x86/include/uapi/asm/svm.h`). The kernel's `KVM_ISA_SVM`.
pub const ISA_SVM: u32 = 2;

const _: () = assert!(size_of::<VcpuEntry>() == 64);
const _: () = assert!(size_of::<Loss>() == 40);
// One value of an array map must fit into one allocation (`array_map_alloc_check`,
// kernel/bpf/arraymap.c): 4 MiB.
const _: () = assert!(ENTRIES * size_of::<VcpuEntry>() <= 4 << 20);

impl VcpuEntry {
    /// Offset of entry number `probe` in a task's probe sequence, bytes from the start of the table.
    ///
    /// The multiplication spreads tasks that were created together: their addresses are adjacent, and
    /// their homes would be too. The factor has 31 bits and so fits into the instruction.
    #[inline(always)]
    pub const fn offset(task: u64, probe: usize) -> usize {
        let stride = size_of::<Self>();
        let scattered = task.wrapping_mul(0x61c8_8647) >> 18;
        (scattered as usize + probe * stride) & ((ENTRIES - 1) * stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of tasks that find no entry when they claim one as the kernel side does.
    fn tasks_without_entry(tasks: impl Iterator<Item = u64>) -> usize {
        let mut table = vec![false; ENTRIES];
        tasks
            .filter(|&task| {
                let offsets = (0..PROBES)
                    .map(|probe| VcpuEntry::offset(task, probe) / size_of::<VcpuEntry>());
                !offsets.into_iter().any(|offset| !std::mem::replace(&mut table[offset], true))
            })
            .count()
    }

    #[test]
    fn offsets_of_max_vcpus_reach_free_entries() {
        let start = 0xffff_8881_0123_4000;
        // Slabs of 32 KiB with as many tasks as fit, adjacent or spread out.
        for size in (0x1000..0x3000).step_by(0x40) {
            for apart in [1, 2, 3, 7, 0x1_2345] {
                let each = 0x8000 / size;
                let tasks = (0..u64::from(MAX_VCPUS))
                    .map(|n| start + n / each * apart * 0x8000 + n % each * size);
                assert_eq!(tasks_without_entry(tasks), 0, "{size:#x} bytes, {apart} slabs on");
            }
        }
    }

    #[test]
    fn offset_of_probe_stays_in_table() {
        for task in (0..10_000).map(|n: u64| n.wrapping_mul(0x1234_5678_9abc_def0)) {
            for probe in 0..PROBES {
                let offset = VcpuEntry::offset(task, probe);
                assert!(offset.is_multiple_of(size_of::<VcpuEntry>()));
                assert!(offset < ENTRIES * size_of::<VcpuEntry>());
            }
        }
    }
}
