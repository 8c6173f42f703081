//! Maps, and globals that the agent sets before it loads the programs.
//!
//! Map sizes of 1 are placeholders: the agent sizes the maps for the host's vCPUs.

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

/// Table of vCPU threads: a hash table with open addressing, keyed by task.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.vcpus")]
static VCPUS: SharedStatic<[VcpuEntry; ENTRIES]> = SharedStatic(UnsafeCell::new([FREE; ENTRIES]));

/// Free entry of the table of vCPU threads.
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

/// Static that userspace, or several CPUs, access concurrently.
#[repr(transparent)]
struct SharedStatic<T>(UnsafeCell<T>);

// SAFETY: only reached through raw pointers; each part has one writer (see `VcpuEntry`).
unsafe impl<T> Sync for SharedStatic<T> {}

/// Stats blocks, one per traced vCPU. Userspace maps them and reads them concurrently.
#[map]
static VCPU_STATS: Array<VcpuStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Indices of the free stats blocks; filled by userspace.
#[map]
pub static FREE_STATS: Queue<u32> = Queue::with_max_entries(1, 0);

/// Process IDs of the VMs to trace; used if [`FILTER`] is set.
#[map]
pub static VMS: HashMap<u32, u8> = HashMap::with_max_entries(1, 0);

/// Loss counters. One entry.
#[map]
pub static LOSS: PerCpuArray<Loss> = PerCpuArray::with_max_entries(1, 0);

/// Records of slow exits.
#[map]
pub static SLOW: RingBuf = RingBuf::with_byte_size(UNUSED_BYTES, 0);

/// Limits that select slow exits.
#[unsafe(no_mangle)]
pub static SLOW_LIMITS: SlowLimits = SlowLimits { ns: 0, ignored: [0; MAX_IGNORED] };

/// 1: trace the VMs in [`VMS`] only.
#[unsafe(no_mangle)]
pub static FILTER: u8 = 0;

/// Share of exits to time by random sampling, of 2^32.
#[unsafe(no_mangle)]
pub static TIMING_SHARE: u32 = 0;

/// 1: [`SAMPLER`] sets the windows and the share of exits to time.
#[unsafe(no_mangle)]
pub static SAMPLED: u8 = 0;

/// Sampling settings. Userspace writes them at any time.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.sampler")]
static SAMPLER: SharedStatic<SamplerControl> = SharedStatic(UnsafeCell::new(SamplerControl {
    window_start_ns: NO_WINDOW,
    share: u32::MAX,
    reserved: 0,
}));

/// Location of the exit code for a raw `kvm_exit`.
#[unsafe(no_mangle)]
pub static RAW_EXIT_LAYOUT: RawExitLayout =
    RawExitLayout { reason_in: 0, cast_to: 0, pointer: 0, reason: 0, vcpu_id: 0, isa: 0 };

/// Location of the guest's instruction pointer for a raw `kvm_entry`.
#[unsafe(no_mangle)]
pub static RAW_ENTRY_LAYOUT: RawEntryLayout = RawEntryLayout { rip: 0, cached: 0 };

/// Offsets in the record of a classic `kvm_exit`.
#[unsafe(no_mangle)]
pub static EXIT_LAYOUT: ExitLayout = ExitLayout { exit_reason: 0, isa: 0, vcpu_id: 0 };

/// Offsets in the records of the other classic tracepoints.
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

/// Reads a global, or a field of one, as the agent set it. Volatile, since the compiler only knows the
/// placeholder. The verifier knows the frozen value and prunes dead branches by it.
macro_rules! global {
    ($name:ident $(. $field:ident)? $([$index:expr])?) => {
        // SAFETY: a static, or a part of one.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::$name $(.$field)? $([$index])?) }
    };
}
pub(crate) use global;

/// Table of vCPU threads.
#[inline(always)]
pub fn vcpus() -> *mut VcpuEntry {
    VCPUS.0.get().cast()
}

/// Sampling settings; `None` in a probe that is not sampled.
#[inline(always)]
pub fn sampler() -> Option<*mut SamplerControl> {
    (global!(SAMPLED) != 0).then(|| SAMPLER.0.get())
}

/// Stats block with the index that `index` points to. The histograms follow the counters.
#[inline(always)]
pub fn stats(index: *const u32) -> Option<*mut VcpuCounters> {
    // SAFETY: the helper reads the index in place, which saves a copy on the stack; the pointer is valid
    // as long as the program runs.
    let stats =
        unsafe { bpf_map_lookup_elem((&raw const VCPU_STATS).cast_mut().cast(), index.cast()) };
    (!stats.is_null()).then_some(stats.cast())
}

/// Loss counters of this CPU.
#[inline(always)]
pub fn loss() -> Option<*mut Loss> {
    LOSS.get_ptr_mut(0)
}

/// Counts a loss by its cause: a field of [`Loss`].
macro_rules! count_loss {
    ($cause:ident) => {
        if let Some(loss) = $crate::maps::loss() {
            $crate::access::add!(loss, $cause, 1);
        }
    };
}
pub(crate) use count_loss;
