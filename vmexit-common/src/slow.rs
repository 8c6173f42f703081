//! Slow exits: the record of each in the ring buffer, and the limits that select them.

/// Record of a slow exit in the ring buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlowExitRecord {
    /// Timestamp of the entry that ended the exit: `CLOCK_MONOTONIC`, nanoseconds.
    pub end_ns: u64,
    /// Duration from exit to entry, nanoseconds.
    pub duration_ns: u64,
    /// Part of `duration_ns` in which userspace had the vCPU, nanoseconds; 0 if it never had it.
    pub user_ns: u64,
    /// Process ID (upper half) and thread ID (lower half) in the initial PID namespace.
    pub thread: u64,
    /// [`Key`](crate::key::Key) of the exit reason.
    pub reason: u64,
    /// [`Key`](crate::key::Key) of the exit's detail; 0 if no tracepoint reported one.
    pub detail: u64,
    /// [`Key`](crate::key::Key) of the return to userspace; 0 if there was none.
    pub user: u64,
    /// Guest's instruction pointer at the entry, an offset in its code segment. Valid with
    /// [`RIP_KNOWN`] only.
    pub rip: u64,
    /// Number of the vCPU within its VM, or [`UNKNOWN_ID`](crate::vcpu::UNKNOWN_ID).
    pub vcpu_id: u32,
    /// Vendor of the exit codes: 1 VMX, 2 SVM, 0 unknown.
    pub isa: u16,
    /// Flags: [`RIP_KNOWN`] or 0.
    pub flags: u16,
}

/// [`SlowExitRecord::flags`]: `rip` is valid.
pub const RIP_KNOWN: u16 = 1;

/// Most exit reasons that can be ignored: AMD has two for a waiting guest.
pub const MAX_IGNORED: usize = 2;

/// Limits that select slow exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlowLimits {
    /// Shortest duration of a slow exit, nanoseconds.
    pub ns: u64,
    /// [`Key`](crate::key::Key)s of the ignored exit reasons; unused elements are 0, which is no key.
    pub ignored: [u64; MAX_IGNORED],
}

/// Size of the ring buffer while slow exits are not traced, bytes: one page, the minimum.
pub const UNUSED_BYTES: u32 = 4096;
/// Size of the ring buffer while slow exits are traced, bytes: room for 13,000 records, each with the
/// kernel's header of 8 bytes (`BPF_RINGBUF_HDR_SZ`).
pub const BUFFER_BYTES: u32 = 1 << 20;

const _: () = assert!(size_of::<SlowExitRecord>() == 72 && align_of::<SlowExitRecord>() == 8);
const _: () = assert!(size_of::<SlowLimits>() == 8 * (1 + MAX_IGNORED));
