//! SlowDetail a single exit was.

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

/// One exit that took long.
#[derive(Clone, Debug, Serialize)]
pub struct SlowExit {
    /// When the guest went on: UTC, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The VM's name as its owner chose it: unescaped.
    pub vm: String,
    /// Process id of the VMM.
    pub pid: u32,
    /// The vCPU's number within the VM; null where neither kernel nor VMM tells.
    pub vcpu: Option<u32>,
    /// Thread id.
    pub tid: u32,
    /// Name of the reason, as Linux prints it.
    pub reason: String,
    /// The vendor's exit code.
    pub code: u32,
    /// The vCPU waits in it: its time is not cost.
    pub waits: bool,
    /// From exit to entry, nanoseconds.
    pub duration_ns: u64,
    /// The part of it in which userspace (QEMU) had the vCPU, nanoseconds; null where that can't be known.
    pub userspace_ns: Option<u64>,
    /// Why it went to userspace, such as `KVM_EXIT_IO` or `interrupted`; null if it did not.
    pub userspace: Option<String>,
    /// SlowDetail it was for; null where nothing told.
    pub detail: Option<SlowDetail>,
    /// Where the guest goes on: its instruction pointer, an offset in its code segment; hexadecimal. Null
    /// where KVM has not read it.
    #[serde(serialize_with = "hexadecimal")]
    pub rip: Option<u64>,
}

/// SlowDetail an exit was for.
#[derive(Clone, Debug, Serialize)]
pub struct SlowDetail {
    /// The thing.
    #[serde(flatten)]
    pub subject: Subject,
    /// Bytes of the access; null for what is none.
    pub size: Option<u8>,
}

/// SlowDetail single exits are put into words with.
#[derive(Clone, Copy)]
pub struct SlowSources<'a> {
    /// SlowDetail exit codes are called.
    pub reasons: &'a Names,
    /// Whose exit codes they are where the kernel does not say.
    pub vendor: Option<Vendor>,
    /// SlowDetail is known of the VM's address spaces.
    pub map: &'a Map,
    /// The VM; one that nobody could name goes by its process id.
    pub guest: Option<&'a vm::Vm>,
    /// Whether it is known which exits go to userspace.
    pub userspace: bool,
    /// SlowDetail time it is.
    pub clock: Clock,
}

/// The same moment on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// By the wall clock.
    pub wall: SystemTime,
    /// By the kernel side's, nanoseconds.
    pub ns: u64,
}

/// SlowDetail two readings of both clocks may differ by, for all that can happen between the one and the other.
const CLOSE: Duration = Duration::from_millis(20);

impl Clock {
    /// The later reading, if the wall clock was set since this one; else this one still, so that times do
    /// not jump back and forth.
    pub fn or_set(self, later: Self) -> Self {
        let expected = self.at(later.ns);
        let apart = later.wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        if apart > CLOSE { later } else { self }
    }

    /// The wall clock's time of another moment.
    fn at(self, ns: u64) -> SystemTime {
        match self.ns.checked_sub(ns) {
            Some(ago) => self.wall.checked_sub(Duration::from_nanos(ago)),
            None => self.wall.checked_add(Duration::from_nanos(ns - self.ns)),
        }
        .unwrap_or(self.wall)
    }
}

impl SlowExit {
    /// Whether it was for something where nothing is by what is known of the VM's devices.
    pub fn is_unassigned(&self) -> bool {
        let device = self.detail.as_ref().and_then(|what| what.subject.device.as_ref());
        device.is_some_and(|device| device.name.is_none())
    }

    /// Puts one into words.
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
            vm: guest.map_or_else(|| vm::nameless(pid), |guest| guest.name.clone()),
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

/// JSON's numbers are exact up to 2^53 only.
fn hexadecimal<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(&format_args!("{number:#x}")),
        None => serializer.serialize_none(),
    }
}
