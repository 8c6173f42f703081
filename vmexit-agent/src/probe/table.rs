//! The table of vCPU threads, copied: it is one large value of a map, which programs reach by address,
//! and the price of that is that userspace can't map it.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{Map, MapData};
use vmexit_common::vcpu::{ENTRIES, NEW, READY, VcpuEntry};

use super::ProbeError;

/// `BPF_MAP_LOOKUP_ELEM` (include/uapi/linux/bpf.h).
const LOOK_UP: libc::c_long = 1;

/// The part of `union bpf_attr` that a look-up reads.
#[repr(C)]
struct LookUp {
    map: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The table's map.
pub(super) struct VcpuTable(MapData);

impl VcpuTable {
    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        match map {
            Map::Array(data) => Ok(Self(data)),
            _ => Err(ProbeError::Missing(".bss.vcpus")),
        }
    }

    /// How many exits the thread of each book has had, by the book's index. Those of a thread that runs
    /// meanwhile may be a few less, never more.
    pub(super) fn exits_by_stats_block(&self) -> io::Result<HashMap<usize, u64>> {
        let entries = self.copy()?;
        let live =
            entries.iter().filter(|vcpu| vcpu.task != 0 && matches!(vcpu.state, READY | NEW));
        Ok(live.map(|vcpu| (vcpu.stats_index as usize, vcpu.exits)).collect())
    }

    /// A copy, field by field at different moments.
    fn copy(&self) -> io::Result<Vec<VcpuEntry>> {
        let mut entries: Vec<VcpuEntry> = Vec::with_capacity(ENTRIES);
        let key = 0u32;
        let look_up = LookUp {
            map: self.0.fd().as_fd().as_raw_fd() as u32,
            key: &raw const key as u64,
            value: entries.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: the kernel reads the key and writes one value, which is ENTRIES entries long; both
        // live through the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, LOOK_UP, &raw const look_up, size_of::<LookUp>())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all of it is written, and any bytes are entries.
        unsafe { entries.set_len(ENTRIES) };
        Ok(entries)
    }
}
