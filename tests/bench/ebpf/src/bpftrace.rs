//! Comparator for `kvmexits.bt` (by Brendan Gregg, for BPF Performance Tools, chapter 16), compiled as by
//! bpftrace 0.26 (commit e1b7c39341f7): a log2 histogram of exit times by reason.
//!
//! `@start[tid] = nsecs` and `@reason[tid] = args.exit_reason` are hash tables. The table of names is one
//! too; its strings are part of the histogram's key. The histogram is a per-CPU hash table with one key
//! per bucket. Every mention of `tid` is a helper call, and every mention of a map is a lookup. All maps
//! are preallocated with 4096 entries.
//!
//! Where the versions differ, the comparator does the cheaper thing. bpftrace 0.26 builds keys above 32
//! bytes in a buffer. 0.17 (Debian 12) counts by a lookup and an update, and copies the name byte by byte.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{HashMap, PerCpuHashMap},
};

use crate::context::{AS_IF_NOT_ON_CPU_0, exit_reason, thread};

/// Entries of each map.
const ENTRIES: u32 = 4096;

/// Name of an exit reason: 20 bytes, the length of the script's longest.
type BpftraceName = [u32; 5];

/// Key of the histogram: reason, name and bucket, without padding.
type BpftraceBucket = [u32; 9];

#[map]
static BT_START: HashMap<u64, u64> = HashMap::with_max_entries(ENTRIES, 0);

#[map]
static BT_REASON: HashMap<u64, u64> = HashMap::with_max_entries(ENTRIES, 0);

/// Names by reason. The loader fills the map, as the script's BEGIN does.
#[map]
static BT_NAME: HashMap<u64, BpftraceName> = HashMap::with_max_entries(ENTRIES, 0);

#[map]
static BT_EXIT_NS: PerCpuHashMap<BpftraceBucket, u64> = PerCpuHashMap::with_max_entries(ENTRIES, 0);

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn bpftrace_exit(record: *mut c_void) -> u32 {
    let ns = nsecs();
    let _ = BT_START.insert(tid(), ns, 0);
    let reason = u64::from(exit_reason(record));
    let _ = BT_REASON.insert(tid(), reason, 0);
    AS_IF_NOT_ON_CPU_0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn bpftrace_entry(_record: *mut c_void) -> u32 {
    if value(&BT_START, tid()) != 0 {
        let reason = value(&BT_REASON, tid());
        let ns = nsecs().wrapping_sub(value(&BT_START, tid()));
        count(reason, log2(ns));
        let _ = BT_START.remove(tid());
        let _ = BT_REASON.remove(tid());
    }
    AS_IF_NOT_ON_CPU_0
}

#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "a key by value is copied once more")]
fn count(reason: u64, log2: u64) {
    // SAFETY: names are not written after the start.
    let name = unsafe { BT_NAME.get(reason) }.copied().unwrap_or_default();
    let bucket: BpftraceBucket = [
        reason as u32,
        (reason >> 32) as u32,
        name[0],
        name[1],
        name[2],
        name[3],
        name[4],
        log2 as u32,
        (log2 >> 32) as u32,
    ];
    match BT_EXIT_NS.get_ptr_mut(&bucket) {
        // SAFETY: this CPU's own value, checked by the lookup.
        Some(count) => unsafe { *count += 1 },
        None => {
            let _ = BT_EXIT_NS.insert(&bucket, 1, 0);
        }
    }
}

/// Value of a key; 0 if it is absent.
#[inline(always)]
fn value(map: &HashMap<u64, u64>, key: u64) -> u64 {
    // SAFETY: only the thread itself writes and removes its entries.
    unsafe { map.get(key) }.copied().unwrap_or(0)
}

/// Bucket of a value: 0 for less than zero, 1 for zero, 2 for 1, 3 for 2 and 3, and so on.
#[inline(always)]
fn log2(value: u64) -> u64 {
    match value as i64 {
        ..0 => 0,
        0 => 1,
        _ => {
            let (mut rest, mut log) = (value, 0);
            for step in [5, 4, 3, 2, 1, 0] {
                let shift = u64::from(rest >= 1 << (1 << step)) << step;
                rest >>= shift;
                log += shift;
            }
            log + 2
        }
    }
}

#[inline(always)]
fn tid() -> u64 {
    thread().into()
}

#[inline(always)]
fn nsecs() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}
