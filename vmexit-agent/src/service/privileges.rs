//! What attaching takes and serving does not is given up: whoever should get in by a socket gets less.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// Maps are read with it; kernels before 6.5 want it for any use of `bpf(2)` (kernel/bpf/syscall.c).
const READ: Capability = Capability::CAP_BPF;
/// Which VMs have come is in `/proc` of other users' processes: a directory to be read, and links in it.
const NAME: [Capability; 2] = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE];
/// QEMU's socket is another user's.
const ASK: Capability = Capability::CAP_DAC_OVERRIDE;

/// Programs are attached again and again, where it is counted at times only.
const ATTACH: Capability = Capability::CAP_PERFMON;

/// Keeps only that, as far as it was there; `asks` says whether VMs are asked about their devices, and
/// `attaches` whether programs will be attached again.
///
/// For this thread and all that it starts from now on: to be called before any is.
pub(super) fn give_up(asks: bool, attaches: bool) -> Result<(), CapsError> {
    let wanted = NAME.into_iter().chain([READ]).chain(asks.then_some(ASK));
    let wanted: CapsHashSet = wanted.chain(attaches.then_some(ATTACH)).collect();
    // While there still is what it takes.
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
