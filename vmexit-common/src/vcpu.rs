//! The state of one vCPU thread between tracepoints, and the counters for exits that could not even
//! be noted there. With them every exit is accounted for: `observed = recorded + open + lost`.
//!
//! A vCPU thread is found by the address of its `task_struct` in an open-addressed table of these
//! entries: the one thing that the kernel side gets without a call into anything. An entry lives as
//! long as its thread. The thread itself is the only writer of its entry and of the
//! [`VcpuStats`](crate::stats::VcpuStats) that the entry names, so nothing here is atomic but the claim of a free
//! entry.

/// Entries of the table, a power of two. It is one value of a map, so that programs reach it by its
/// address and need no look-up; its size is therefore the same for all.
pub const ENTRIES: usize = 1 << 14;
/// vCPU threads that find room for certain: a quarter of the table, so that a search ends at once.
pub const MAX_VCPUS: u32 = ENTRIES as u32 / 4;
/// Entries that a thread may take: its home and those after it. Bounds the search for the verifier.
pub const PROBES: usize = 16;

/// [`VcpuEntry::state`] of an entry whose exits are booked as they come.
pub const READY: u32 = 0;
/// [`VcpuEntry::state`] while the entry is set up, and after that until the thread's first exit.
pub const NEW: u32 = 1;
/// [`VcpuEntry::state`] of a thread that found no free book; it looks again at each exit.
pub const NO_STATS: u32 = 2;
/// [`VcpuEntry::state`] of a thread that the filter leaves out.
pub const IGNORED: u32 = 3;

/// [`VcpuEntry::exit_ns`] of an entry that is not [`READY`].
pub const NOT_READY: u64 = 1;
/// [`VcpuEntry::exit_ns`] of an exit that is counted and not timed.
pub const UNTIMED: u64 = 2;
/// The vCPU's number where the kernel's tracepoint does not tell.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// One vCPU thread. All times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct VcpuEntry {
    /// Address of the thread's `task_struct`; 0 while the entry is free.
    pub task: u64,
    /// When the open exit began, or [`UNTIMED`]; 0 while the guest runs; [`NOT_READY`] in an entry that
    /// needs a second look, so that one comparison is enough for those that do not.
    pub exit_ns: u64,
    /// Exits seen, the open one included.
    pub exits: u64,
    /// [`Key`](crate::key::Key) of what the open exit is for; 0 while nothing told.
    pub detail: u64,
    /// [`Key`](crate::key::Key) of the open exit's reason.
    pub reason: u64,
    /// Index of this thread's book.
    pub stats_index: u32,
    /// [`READY`], or why this entry needs a second look.
    pub state: u32,
    /// When the open exit went to userspace, or [`UNTIMED`]; 0 if it did not.
    pub user_ns: u64,
    /// [`Key`](crate::key::Key) of why it did.
    pub user: u64,
}

/// What could not be noted on an entry, by cause. Per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(serde::Deserialize, serde::Serialize), serde(default))]
#[repr(C)]
pub struct Loss {
    /// Exits of threads that found no free entry in the table.
    #[cfg_attr(feature = "user", serde(alias = "no_vcpu_entry"))]
    pub vcpu_table_full: u64,
    /// Exits of threads that found no free book.
    #[cfg_attr(feature = "user", serde(alias = "no_book"))]
    pub vcpu_limit: u64,
    /// Exits whose reason could not be read.
    pub unreadable: u64,
    /// Events without an open exit that had no book to go to.
    #[cfg_attr(feature = "user", serde(alias = "stray"))]
    pub unmatched: u64,
    /// Exits that were to be handed over one by one and found the buffer full; they are booked.
    pub slow: u64,
}

impl Loss {
    /// Each cause of this and another together, such as their sum.
    pub fn with(&self, other: &Self, together: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            vcpu_table_full: together(self.vcpu_table_full, other.vcpu_table_full),
            vcpu_limit: together(self.vcpu_limit, other.vcpu_limit),
            unreadable: together(self.unreadable, other.unreadable),
            unmatched: together(self.unmatched, other.unmatched),
            slow: together(self.slow, other.slow),
        }
    }
}

/// The exit codes are Intel's (`arch/x86/include/uapi/asm/vmx.h`), `KVM_ISA_VMX` of the kernel.
pub const ISA_VMX: u32 = 1;
/// The exit codes are AMD's (`arch/x86/include/uapi/asm/svm.h`), `KVM_ISA_SVM` of the kernel.
pub const ISA_SVM: u32 = 2;

const _: () = assert!(size_of::<VcpuEntry>() == 64);
const _: () = assert!(size_of::<Loss>() == 40);
// One value of an array map must fit into one allocation (`array_map_alloc_check`,
// kernel/bpf/arraymap.c): 4 MiB.
const _: () = assert!(ENTRIES * size_of::<VcpuEntry>() <= 4 << 20);

impl VcpuEntry {
    /// Bytes from the table's start to the entry where a thread's search begins, `probe` entries on.
    ///
    /// Multiplied, for tasks that are made together lie side by side and would fill the table side by
    /// side; by a number of 31 bits, which is part of the instruction.
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

    /// Puts tasks into a table as the kernel side does; those that find no room are counted.
    fn without_room(tasks: impl Iterator<Item = u64>) -> usize {
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
    fn all_that_are_promised_room_have_it() {
        let start = 0xffff_8881_0123_4000;
        // Slabs of 32 KiB with as many tasks as fit, one behind the other or here and there.
        for size in (0x1000..0x3000).step_by(0x40) {
            for apart in [1, 2, 3, 7, 0x1_2345] {
                let each = 0x8000 / size;
                let tasks = (0..u64::from(MAX_VCPUS))
                    .map(|n| start + n / each * apart * 0x8000 + n % each * size);
                assert_eq!(without_room(tasks), 0, "{size:#x} bytes, {apart} slabs on");
            }
        }
    }

    #[test]
    fn a_search_stays_in_the_table() {
        for task in (0..10_000).map(|n: u64| n.wrapping_mul(0x1234_5678_9abc_def0)) {
            for probe in 0..PROBES {
                let offset = VcpuEntry::offset(task, probe);
                assert!(offset.is_multiple_of(size_of::<VcpuEntry>()));
                assert!(offset < ENTRIES * size_of::<VcpuEntry>());
            }
        }
    }
}
