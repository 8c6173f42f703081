//! Report of single slow exits.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use vmexit_common::{
    key::Key,
    slow::{self, RIP_KNOWN},
    vcpu::UNKNOWN_ID,
};

use super::subject::{Naming, Subject};
use crate::{
    device::Map,
    reason::{self, Names},
    vendor::Vendor,
    vm,
};

/// One slow exit.
#[derive(Clone, Debug, Serialize)]
pub struct SlowExit {
    /// Time of the guest entry: UTC, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Name of the VM, chosen by its owner: unescaped.
    pub vm: String,
    /// Process ID of the VMM.
    pub pid: u32,
    /// vCPU number within the VM; null if neither kernel nor VMM determines it.
    pub vcpu: Option<u32>,
    /// Thread ID.
    pub tid: u32,
    /// Linux's name of the exit reason.
    pub reason: String,
    /// The vendor's exit code.
    pub code: u32,
    /// Whether the vCPU waits in it: its time is no cost.
    pub waits: bool,
    /// Time from exit to entry, nanoseconds.
    pub duration_ns: u64,
    /// Part of `duration_ns` during which userspace (QEMU) had the vCPU, nanoseconds; null if not
    /// captured.
    pub userspace_ns: Option<u64>,
    /// Reason for the exit to userspace, such as `KVM_EXIT_IO` or `interrupted`; null without one.
    pub userspace: Option<String>,
    /// Access or call that the exit was for; null if unknown.
    pub detail: Option<SlowDetail>,
    /// Instruction pointer of the guest entry, an offset in its code segment; hexadecimal. Null if
    /// KVM has not read it.
    #[serde(serialize_with = "hexadecimal")]
    pub rip: Option<u64>,
}

/// Access or call that an exit was for.
#[derive(Clone, Debug, Serialize)]
pub struct SlowDetail {
    /// Subject of the access.
    #[serde(flatten)]
    pub subject: Subject,
    /// Size of the access, bytes; null for anything else.
    pub size: Option<u8>,
}

/// Names and context for reporting slow exits.
#[derive(Clone, Copy)]
pub struct SlowSources<'a> {
    /// Names of exit codes.
    pub reasons: &'a Names,
    /// Vendor of exit codes for which the kernel does not report it.
    pub vendor: Option<Vendor>,
    /// Address map of the VM.
    pub map: &'a Map,
    /// The VM; `None` if its process is unknown: it is then named by process ID.
    pub guest: Option<&'a vm::Vm>,
    /// Whether exits to userspace are captured.
    pub userspace: bool,
    /// Conversion from the kernel side's clock to the wall clock.
    pub clock: Clock,
}

/// The same moment on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Wall clock.
    pub wall: SystemTime,
    /// The kernel side's clock, nanoseconds.
    pub ns: u64,
}

/// Maximum difference between two readings of both clocks without a clock change: the clocks are
/// read one after the other.
const MAX_DRIFT: Duration = Duration::from_millis(20);

impl Clock {
    /// The later reading if the wall clock was set in between; otherwise the present one, so that
    /// displayed times do not jump.
    pub fn resync(self, later: Self) -> Self {
        let expected = self.at(later.ns);
        let apart = later.wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        if apart > MAX_DRIFT { later } else { self }
    }

    /// Wall clock time of another moment.
    fn at(self, ns: u64) -> SystemTime {
        match self.ns.checked_sub(ns) {
            Some(ago) => self.wall.checked_sub(Duration::from_nanos(ago)),
            None => self.wall.checked_add(Duration::from_nanos(ns - self.ns)),
        }
        .unwrap_or(self.wall)
    }
}

impl SlowExit {
    /// Whether the exit was for an address without a region in the VM's address map.
    pub fn is_unassigned(&self) -> bool {
        let device = self.detail.as_ref().and_then(|detail| detail.subject.device.as_ref());
        device.is_some_and(|device| device.name.is_none())
    }

    /// The report of a kernel side's record.
    pub fn of(exit: &slow::SlowExitRecord, sources: SlowSources<'_>) -> Self {
        let SlowSources { guest, map, .. } = sources;
        let (pid, tid) = ((exit.thread >> 32) as u32, exit.thread as u32);
        let vendor = Vendor::of_isa(exit.isa.into()).or(sources.vendor);
        let naming = Naming { vendor, map };
        let code = Key(exit.reason).value() as u32;
        let by_thread = || guest.and_then(|guest| guest.threads.get(&tid).copied());
        let known = |key: u64| Some(Key(key)).filter(|&key| key != Key::NONE);
        Self {
            time: sources.clock.at(exit.end_ns),
            vm: guest.map_or_else(|| vm::fallback_name(pid), |guest| guest.name.clone()),
            pid,
            vcpu: Some(exit.vcpu_id).filter(|&id| id != UNKNOWN_ID).or_else(by_thread),
            tid,
            reason: sources.reasons.name(vendor, code).into_owned(),
            code,
            waits: reason::waits(vendor, code),
            duration_ns: exit.duration_ns,
            userspace_ns: sources.userspace.then_some(exit.user_ns),
            userspace: known(exit.user).map(|key| {
                let subject = Subject::of(key, naming);
                subject.name.unwrap_or_else(|| format!("unknown {:#x}", key.value()))
            }),
            detail: known(exit.detail)
                .map(|key| SlowDetail { subject: Subject::of(key, naming), size: key.size() }),
            rip: (exit.flags & RIP_KNOWN != 0).then_some(exit.rip),
        }
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
}

/// Hexadecimal text: JSON numbers are exact only up to 2^53.
fn hexadecimal<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(&format_args!("{number:#x}")),
        None => serializer.serialize_none(),
    }
}
