//! The maps, and the globals that the agent sets before it loads the programs.
//!
//! Sizes of 1 are placeholders: the agent sizes maps by the vCPUs that the host has.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_map_lookup_elem,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue, RingBuf},
};
use vmexit_common::{
    layout::{ExitLayout, FIELDS, FieldsLayout, RawEntryLayout, RawExitLayout},
    sampler::{NO_WINDOW, SamplerControl},
    slow::{MAX_IGNORED, SlowLimits, UNUSED_BYTES},
    stats::{VcpuCounters, VcpuStats},
    vcpu::{ENTRIES, Loss, VcpuEntry},
};

/// vCPU threads, open-addressed by task.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.vcpus")]
static VCPUS: SharedStatic<[VcpuEntry; ENTRIES]> = SharedStatic(UnsafeCell::new([FREE; ENTRIES]));

const FREE: VcpuEntry = VcpuEntry {
    task: 0,
    exit_ns: 0,
    exits: 0,
    detail: 0,
    reason: 0,
    stats_index: 0,
    state: 0,
    user_ns: 0,
    user: 0,
};

#[repr(transparent)]
struct SharedStatic<T>(UnsafeCell<T>);

// SAFETY: only ever reached through raw pointers; each part has one writer (see `VcpuEntry`).
unsafe impl<T> Sync for SharedStatic<T> {}

/// One book for each vCPU that is traced. Userspace maps it and reads along.
#[map]
static VCPU_STATS: Array<VcpuStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Indices of the books that nobody has; filled by userspace.
#[map]
pub static FREE_STATS: Queue<u32> = Queue::with_max_entries(1, 0);

/// Process ids of the VMs to trace, where [`FILTER`] asks for it.
#[map]
pub static VMS: HashMap<u32, u8> = HashMap::with_max_entries(1, 0);

/// What could not even be noted on a vCPU's entry. One entry.
#[map]
pub static LOSS: PerCpuArray<Loss> = PerCpuArray::with_max_entries(1, 0);

/// Exits that took long, one by one.
#[map]
pub static SLOW: RingBuf = RingBuf::with_byte_size(UNUSED_BYTES, 0);

/// Which those are.
#[unsafe(no_mangle)]
pub static SLOW_LIMITS: SlowLimits = SlowLimits { ns: 0, ignored: [0; MAX_IGNORED] };

/// 1: trace the VMs in [`VMS`] only.
#[unsafe(no_mangle)]
pub static FILTER: u8 = 0;

/// With timing by chance: the share of exits to time, of 2^32.
#[unsafe(no_mangle)]
pub static TIMING_SHARE: u32 = 0;

/// 1: [`SAMPLER`] says when it is counted and what is timed.
#[unsafe(no_mangle)]
pub static SAMPLED: u8 = 0;

/// Written by userspace at any time.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.sampler")]
static SAMPLER: SharedStatic<SamplerControl> = SharedStatic(UnsafeCell::new(SamplerControl {
    window_start_ns: NO_WINDOW,
    share: u32::MAX,
    reserved: 0,
}));

/// Where a raw `kvm_exit` finds the exit code.
#[unsafe(no_mangle)]
pub static RAW_EXIT_LAYOUT: RawExitLayout =
    RawExitLayout { reason_in: 0, cast_to: 0, pointer: 0, reason: 0, vcpu_id: 0, isa: 0 };

/// Where a raw `kvm_entry` finds the guest's instruction pointer.
#[unsafe(no_mangle)]
pub static RAW_ENTRY_LAYOUT: RawEntryLayout = RawEntryLayout { rip: 0, cached: 0 };

/// Where `kvm_exit`'s fields are.
#[unsafe(no_mangle)]
pub static EXIT_LAYOUT: ExitLayout = ExitLayout { exit_reason: 0, isa: 0, vcpu_id: 0 };

/// Where the fields of the other tracepoints are.
macro_rules! layouts {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub static $name: FieldsLayout = FieldsLayout { at: [0; FIELDS] };
        )*
    };
}

layouts! {
    KVM_ENTRY KVM_PIO KVM_MMIO KVM_FAST_MMIO KVM_MSR KVM_CPUID KVM_HYPERCALL KVM_HV_HYPERCALL KVM_PAGE_FAULT
    KVM_USERSPACE_EXIT KVM_VCPU_WAKEUP
}

/// Reads a global, or a field of one, as the agent set it. Volatile, for the compiler only knows the
/// placeholder; the verifier knows the frozen value and prunes by it.
macro_rules! global {
    ($name:ident $(. $field:ident)? $([$index:expr])?) => {
        // SAFETY: a static, or a part of one.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::$name $(.$field)? $([$index])?) }
    };
}
pub(crate) use global;

/// The table of vCPU threads.
#[inline(always)]
pub fn vcpus() -> *mut VcpuEntry {
    VCPUS.0.get().cast()
}

/// When it is counted, and what is timed; `None` where that is always the same.
#[inline(always)]
pub fn sampler() -> Option<*mut SamplerControl> {
    (global!(SAMPLED) != 0).then(|| SAMPLER.0.get())
}

/// The book whose index lies there; histograms are behind what this points to.
#[inline(always)]
pub fn stats(index: *const u32) -> Option<*mut VcpuCounters> {
    // SAFETY: the helper reads the index where it is, which saves a copy on the stack; it is valid as long
    // as the program runs.
    let stats =
        unsafe { bpf_map_lookup_elem((&raw const VCPU_STATS).cast_mut().cast(), index.cast()) };
    (!stats.is_null()).then_some(stats.cast())
}

/// This CPU's loss counters.
#[inline(always)]
pub fn loss() -> Option<*mut Loss> {
    LOSS.get_ptr_mut(0)
}

/// Counts what is lost, by cause: a field of [`Loss`].
macro_rules! count_loss {
    ($cause:ident) => {
        if let Some(loss) = $crate::maps::loss() {
            $crate::access::add!(loss, $cause, 1);
        }
    };
}
pub(crate) use count_loss;
