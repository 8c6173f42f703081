//! Single exits that took long: what the kernel side hands over for each, and which it does.

/// An exit that took long enough, as it is in the ring buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlowExitRecord {
    /// When the guest went on: `CLOCK_MONOTONIC`, nanoseconds.
    pub end_ns: u64,
    /// From exit to entry, nanoseconds.
    pub duration_ns: u64,
    /// The part of it in which userspace had the vCPU, nanoseconds; 0 if it did not.
    pub user_ns: u64,
    /// Process (upper half) and thread id (lower half) as the initial PID namespace has them.
    pub thread: u64,
    /// [`Key`](crate::key::Key) of the reason.
    pub reason: u64,
    /// [`Key`](crate::key::Key) of what the exit was for; 0 where nothing told.
    pub detail: u64,
    /// [`Key`](crate::key::Key) of why it went to userspace; 0 if it did not.
    pub user: u64,
    /// Where the guest goes on: its instruction pointer, an offset in its code segment. Says something
    /// with [`RIP_KNOWN`] only.
    pub rip: u64,
    /// The vCPU's number within its VM, or [`UNKNOWN_ID`](crate::vcpu::UNKNOWN_ID).
    pub vcpu_id: u32,
    /// Which vendor's exit codes these are: 1 VMX, 2 SVM, 0 unknown.
    pub isa: u16,
    /// [`RIP_KNOWN`] or 0.
    pub flags: u16,
}

/// [`SlowExitRecord::flags`]: `rip` is the guest's.
pub const RIP_KNOWN: u16 = 1;

/// Reasons that can be left out: AMD has two for waiting.
pub const MAX_IGNORED: usize = 2;

/// Which exits are handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlowLimits {
    /// The shortest that is long enough, nanoseconds.
    pub ns: u64,
    /// [`Key`](crate::key::Key)s of reasons that are left out; 0, which is nobody's, in unused places.
    pub ignored: [u64; MAX_IGNORED],
}

/// Bytes of the ring buffer where nobody wants it: a page, which is the least.
pub const UNUSED_BYTES: u32 = 4096;
/// Bytes of it where somebody does: room for 13,000 exits, each with the kernel's header of 8 bytes
/// (`BPF_RINGBUF_HDR_SZ`).
pub const BUFFER_BYTES: u32 = 1 << 20;

const _: () = assert!(size_of::<SlowExitRecord>() == 72 && align_of::<SlowExitRecord>() == 8);
const _: () = assert!(size_of::<SlowLimits>() == 8 * (1 + MAX_IGNORED));
