//! Copies of the table of vCPU threads. It is one large value of a map in `.bss`: programs reach it by address, but
//! userspace can't map it.

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

/// The part of `union bpf_attr` that `BPF_MAP_LOOKUP_ELEM` reads.
#[repr(C)]
struct LookUp {
    map: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Map of the table.
pub(super) struct VcpuTable(MapData);

impl VcpuTable {
    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        match map {
            Map::Array(data) => Ok(Self(data)),
            _ => Err(ProbeError::Missing(".bss.vcpus")),
        }
    }

    /// Exits of each thread by the index of its stats block. Exits during the copy may be missing; none is counted
    /// too early.
    pub(super) fn exits_by_stats_block(&self) -> io::Result<HashMap<usize, u64>> {
        let entries = self.copy()?;
        let live =
            entries.iter().filter(|vcpu| vcpu.task != 0 && matches!(vcpu.state, READY | NEW));
        Ok(live.map(|vcpu| (vcpu.stats_index as usize, vcpu.exits)).collect())
    }

    /// A copy of the table; its fields may be of different moments.
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
        // SAFETY: the kernel wrote all entries, which are plain integers.
        unsafe { entries.set_len(ENTRIES) };
        Ok(entries)
    }
}
