//! The state of one vCPU thread between tracepoints, and the counters that make every exit
//! accounted for: `observed = recorded + open + lost`.
//!
//! A vCPU thread is found by its thread id in an open-addressed table of these entries. The thread
//! itself is the only writer of its entry and of the [`Book`](crate::book::Book) that the entry
//! names, so nothing here is atomic but the claim of a free entry.

/// Entries of the table for every book: a quarter full at most, so a search ends at once.
pub const ENTRIES_PER_BOOK: u32 = 4;
/// Entries that a thread may take: its home and those after it. Bounds the search for the verifier.
pub const PROBES: u32 = 8;

/// [`Vcpu::book`] of an entry that is being set up, or whose thread found no free book.
pub const NO_BOOK: u32 = u32::MAX;
/// [`Vcpu::book`] of a thread that the filter leaves out.
pub const IGNORED: u32 = u32::MAX - 1;
/// [`Vcpu::exit_ns`] of an exit that is counted and not timed.
pub const UNTIMED: u64 = 1;
/// [`Vcpu::vcpu_id`] where the kernel's tracepoint does not tell.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// One vCPU thread. All times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Vcpu {
    /// Process (upper half) and thread id (lower half) as the initial PID namespace has them; 0
    /// while the entry is free.
    pub thread: u64,
    /// When the open exit began, or [`UNTIMED`]; 0 while the guest runs.
    pub exit_ns: u64,
    /// Exit code of the open exit, as the vendor defines it.
    pub exit_code: u32,
    /// Accesses noted for `detail`.
    pub accesses: u32,
    /// [`Key`](crate::key::Key) of what the open exit is for; 0 while nothing told.
    pub detail: u64,
    /// Access sizes noted for `detail`, a bit mask of 1, 2, 4 and 8 (bytes).
    pub sizes: u32,
    /// Index of this thread's book, [`NO_BOOK`] or [`IGNORED`].
    pub book: u32,
    /// The vCPU's number within its VM, or [`UNKNOWN_ID`].
    pub vcpu_id: u32,
    /// Which vendor's exit codes these are: 1 VMX, 2 SVM, 0 while no exit was seen.
    pub isa: u32,
    /// Twice the exits seen; odd while one is being noted.
    pub exits_seq: u64,
    /// Twice the bookings made; odd while one is being made. A reader that finds both sequences
    /// even and unchanged has read a consistent entry and book.
    pub books_seq: u64,
    /// Exits whose entry was never seen: another exit came first.
    pub lost_no_entry: u64,
    /// Exits that were seen to end, but had no book to go to.
    pub lost_no_book: u64,
    /// Events without an open exit that had no book to go to.
    pub lost_stray: u64,
    /// Keeps the entry at two cache lines.
    pub reserved: [u64; 3],
}

/// What could not even be noted on an entry, by cause. Per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Loss {
    /// Exits of threads that found no free entry in the table.
    pub no_vcpu_entry: u64,
    /// Exits whose reason could not be read.
    pub unreadable: u64,
}

/// The exit codes are Intel's (`arch/x86/include/uapi/asm/vmx.h`), `KVM_ISA_VMX` of the kernel.
pub const ISA_VMX: u32 = 1;
/// The exit codes are AMD's (`arch/x86/include/uapi/asm/svm.h`), `KVM_ISA_SVM` of the kernel.
pub const ISA_SVM: u32 = 2;

const _: () = assert!(size_of::<Vcpu>() == 128);
const _: () = assert!(size_of::<Loss>() == 16);

impl Vcpu {
    /// Process id of the VMM.
    pub const fn pid(&self) -> u32 {
        (self.thread >> 32) as u32
    }

    /// Thread id of the vCPU.
    pub const fn tid(&self) -> u32 {
        self.thread as u32
    }

    /// Exits seen, the open one included.
    pub const fn observed(&self) -> u64 {
        self.exits_seq / 2
    }

    /// Exits that have begun and not ended: 0 or 1.
    pub const fn open(&self) -> u64 {
        (self.exit_ns != 0) as u64
    }

    /// Whether a writer is inside this entry or its book.
    pub const fn is_being_written(&self) -> bool {
        (self.exits_seq | self.books_seq) & 1 != 0
    }
}
