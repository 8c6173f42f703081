//! Capabilities of a service. Those that only attaching needs are dropped, so that an attacker gets less.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// To read maps; kernels before 6.5 require it for any use of `bpf(2)` (kernel/bpf/syscall.c).
const READ_MAPS: Capability = Capability::CAP_BPF;
/// To find new VMs: `/proc/PID/fd` of other users' processes is a directory to list, with links to read.
const FIND_VMS: [Capability; 2] = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE];
/// To connect to QMP sockets of other users.
const CONNECT_QMP: Capability = Capability::CAP_DAC_OVERRIDE;
/// To attach programs again for each window.
const REATTACH: Capability = Capability::CAP_PERFMON;

/// Drops all capabilities but those above. `asks_vms`: VMs are asked about their devices; `reattaches`: programs will
/// be attached again.
///
/// Affects this thread and those that it starts later, so it must be called before any is started.
///
/// # Errors
/// A capability set can't be read or changed.
pub(super) fn drop_unneeded(asks_vms: bool, reattaches: bool) -> Result<(), CapsError> {
    let wanted = FIND_VMS.into_iter().chain([READ_MAPS]).chain(asks_vms.then_some(CONNECT_QMP));
    let wanted: CapsHashSet = wanted.chain(reattaches.then_some(REATTACH)).collect();
    // First, as it needs a capability itself.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&wanted) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    let kept: CapsHashSet =
        caps::read(None, CapSet::Permitted)?.intersection(&wanted).copied().collect();
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
