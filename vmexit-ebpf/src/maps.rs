//! The maps, and the globals that the agent sets before it loads the programs.
//!
//! Sizes of 1 are placeholders: the agent sizes maps by the vCPUs that the host has.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue},
};
use vmexit_common::{
    book::Book,
    layout::{ExitLayout, PioLayout, RawExitLayout},
    vcpu::{Loss, Vcpu},
};

/// vCPU threads, open-addressed by thread id. Userspace maps it and reads along.
#[map]
pub static VCPUS: Array<Vcpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One book for each vCPU that is traced. Userspace maps it and reads along.
#[map]
pub static BOOKS: Array<Book> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Indices of the books that nobody has; filled by userspace.
#[map]
pub static FREE_BOOKS: Queue<u32> = Queue::with_max_entries(1, 0);

/// Process ids of the VMs to trace, where [`FILTER`] asks for it.
#[map]
pub static VMS: HashMap<u32, u8> = HashMap::with_max_entries(1, 0);

/// What could not even be noted on a vCPU's entry. One entry.
#[map]
pub static LOSS: PerCpuArray<Loss> = PerCpuArray::with_max_entries(1, 0);

/// Entries of [`VCPUS`] less one; their number is a power of two.
#[unsafe(no_mangle)]
static VCPU_MASK: u32 = 0;

/// 1: trace the VMs in [`VMS`] only.
#[unsafe(no_mangle)]
static FILTER: u8 = 0;

/// With timing by chance: the share of exits to time, of 2^32.
#[unsafe(no_mangle)]
static TIMING_SHARE: u32 = 0;

/// Where a raw `kvm_exit` finds the exit code.
#[unsafe(no_mangle)]
static RAW_EXIT_LAYOUT: RawExitLayout =
    RawExitLayout { reason_in: 0, vcpu_argument: 0, pointer: 0, reason: 0, vcpu_id: 0, isa: 0 };

/// Where `kvm_exit`'s fields are.
#[unsafe(no_mangle)]
static EXIT_LAYOUT: ExitLayout = ExitLayout { exit_reason: 0, isa: 0, vcpu_id: 0 };

/// Where `kvm_pio`'s fields are.
#[unsafe(no_mangle)]
static PIO_LAYOUT: PioLayout = PioLayout { rw: 0, port: 0, size: 0, count: 0 };

/// Reads a global as the agent set it. Volatile, for the compiler only knows the placeholder; the
/// verifier knows the frozen value and prunes by it.
macro_rules! global {
    ($name:ident, $type:ty) => {
        // SAFETY: a static of this very type.
        unsafe { core::ptr::read_volatile(&raw const $name) as $type }
    };
}

#[inline(always)]
pub fn vcpu_mask() -> u32 {
    global!(VCPU_MASK, u32)
}

#[inline(always)]
pub fn filter() -> bool {
    global!(FILTER, u8) != 0
}

#[inline(always)]
pub fn timing_share() -> u32 {
    global!(TIMING_SHARE, u32)
}

#[inline(always)]
pub fn raw_exit_layout() -> RawExitLayout {
    global!(RAW_EXIT_LAYOUT, RawExitLayout)
}

#[inline(always)]
pub fn exit_layout() -> ExitLayout {
    global!(EXIT_LAYOUT, ExitLayout)
}

#[inline(always)]
pub fn pio_layout() -> PioLayout {
    global!(PIO_LAYOUT, PioLayout)
}

/// This CPU's loss counters.
#[inline(always)]
pub fn loss() -> Option<*mut Loss> {
    LOSS.get_ptr_mut(0)
}
