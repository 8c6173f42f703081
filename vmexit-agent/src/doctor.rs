//! Checks of `vmexit doctor`: whether this host can be traced, and how to fix it if not.

use serde::Serialize;
use vmexit_common::layout::reason_in;
use vmexit_core::{escape, host::Host, units::plural, vm};

use crate::{
    discover,
    host::{self, btf::Btf, preflight, tracefs::Tracefs},
    probe::{
        self,
        plan::{AttachPlan, ReadPath, Tracepoints},
        tracepoints::{OLDEST_LINUX, TRACEPOINTS},
    },
};

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Nothing to change.
    Ok,
    /// A capture works, but shows less or costs more.
    Note,
    /// A capture fails.
    Problem,
}

/// Outcome of one check of the host.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Name of the check, or of the tracepoint.
    pub name: String,
    /// Result of the check.
    pub state: CheckState,
    /// The finding and, for problems, the remedy.
    pub message: String,
}

/// vCPUs of a large host, for the check of memory.
const MANY_VCPUS: u32 = 2_000;

/// Runs all checks that load no eBPF program.
pub fn examine() -> Vec<Check> {
    let host = host::current();
    let mut checks = vec![permission(), kernel(&host), lockdown(), kvm(&host), btf(), tracefs()];
    checks.extend(tracepoints());
    checks.push(memory());
    checks.extend(vms());
    checks
}

fn check(name: impl Into<String>, state: CheckState, message: impl Into<String>) -> Check {
    Check { name: name.into(), state, message: message.into() }
}

fn permission() -> Check {
    match preflight::permission() {
        Ok(()) => check("permission", CheckState::Ok, "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN"),
        Err(error) => check("permission", CheckState::Problem, error.to_string()),
    }
}

fn kernel(host: &Host) -> Check {
    let cpus = plural(host.cpus as u64, "CPU");
    check(
        "kernel",
        CheckState::Ok,
        format!("Linux {}, {cpus} ({OLDEST_LINUX} or later is needed)", host.kernel),
    )
}

fn lockdown() -> Check {
    match preflight::lockdown() {
        Ok(()) => check("lockdown", CheckState::Ok, "eBPF programs may read kernel memory"),
        Err(error) => check("lockdown", CheckState::Problem, error.to_string()),
    }
}

fn kvm(host: &Host) -> Check {
    match (preflight::kvm(), host.vendor, host.kvm_module.as_deref()) {
        (Err(error), ..) => check("kvm", CheckState::Problem, error.to_string()),
        (Ok(()), Some(vendor), module) => check(
            "kvm",
            CheckState::Ok,
            format!("{} ({})", vendor.title(), module.unwrap_or_default()),
        ),
        (Ok(()), None, Some(module)) => {
            let message =
                format!("{module}: may not report exits; counts and times may be missing");
            check("kvm", CheckState::Note, message)
        }
        (Ok(()), None, None) => {
            let message =
                "neither kvm_intel nor kvm_amd is loaded, so no VM can run: load one with modprobe";
            check("kvm", CheckState::Note, message)
        }
    }
}

fn btf() -> Check {
    match Btf::vmlinux() {
        Ok(btf) => check("btf", CheckState::Ok, format!("{} types", btf.len())),
        Err(error) => {
            check("btf", CheckState::Note, format!("{error}; classic tracepoints work without BTF"))
        }
    }
}

fn tracefs() -> Check {
    match Tracefs::find() {
        Ok(_) => check("tracefs", CheckState::Ok, "mounted"),
        Err(error) => {
            check("tracefs", CheckState::Note, format!("{error}; raw tracepoints work without it"))
        }
    }
}

/// Read paths of all tracepoints, and the reasons of fallbacks.
fn tracepoints() -> Vec<Check> {
    let plan = match AttachPlan::make(Tracepoints::Auto) {
        Ok(plan) => plan,
        Err(error) => return vec![check("tracepoints", CheckState::Problem, error.to_string())],
    };
    TRACEPOINTS
        .iter()
        .map(|tracepoint| {
            let (state, message) = match tracepoint.name {
                "kvm_exit" => read_path(&plan.exit),
                "kvm_entry" => read_path(&plan.entry),
                name => match plan.details.get(name) {
                    Some(Ok(detail)) => read_path(detail),
                    Some(Err(error)) => {
                        (CheckState::Note, format!("{} unavailable: {error}", tracepoint.without))
                    }
                    None => (CheckState::Ok, "raw tracepoint".into()),
                },
            };
            let need = if tracepoint.event.is_none() { "required" } else { "optional" };
            let since = tracepoint.since;
            check(tracepoint.name, state, format!("{message} ({need}, in Linux since {since})"))
        })
        .chain(matches!(plan.exit, ReadPath::Raw(_)).then(|| struct_reads(&plan)))
        .collect()
}

/// How raw programs read kernel structs.
fn struct_reads(plan: &AttachPlan) -> Check {
    match (&plan.exit, plan.cast) {
        (_, Some(_)) => check("reads", CheckState::Ok, "plain loads from the kernel's structs"),
        (ReadPath::Raw(layout), None) if layout.reason_in == reason_in::ARGUMENT => {
            check("reads", CheckState::Ok, "none: the exit reason is an argument of the tracepoint")
        }
        _ => {
            let message = "a helper function, some 80 instructions more per exit than plain loads (Linux 6.2)";
            check("reads", CheckState::Note, message)
        }
    }
}

fn read_path<R, C>(path: &ReadPath<R, C>) -> (CheckState, String) {
    match path {
        ReadPath::Raw(_) => (CheckState::Ok, "raw tracepoint".into()),
        ReadPath::Classic(_, why) => {
            (CheckState::Note, format!("classic tracepoint, which costs more: {why}"))
        }
    }
}

fn memory() -> Check {
    let mib = |vcpus| probe::memory(vcpus).div_ceil(1 << 20);
    let message = format!(
        "at most {} MiB of kernel memory for {MANY_VCPUS} vCPUs, {} MiB for 64",
        mib(MANY_VCPUS),
        mib(64)
    );
    check("memory", CheckState::Ok, message)
}

fn vms() -> Vec<Check> {
    let found = match discover::find_all() {
        Ok(found) => found,
        Err(error) => return vec![check("vms", CheckState::Problem, error.to_string())],
    };
    let mut checks: Vec<Check> = found.vms.iter().map(vm).collect();
    if found.hidden > 0 {
        checks.push(check("vms", CheckState::Note, vmexit_view::hidden(&found)));
    }
    if found.vms.is_empty() {
        checks.push(check("vms", CheckState::Note, "none is running"));
    }
    checks
}

fn vm(vm: &vm::Vm) -> Check {
    let monitors: Vec<String> = vm.monitors.iter().map(ToString::to_string).collect();
    let qmp = if monitors.is_empty() { "no QMP socket".to_owned() } else { monitors.join(", ") };
    let vcpus = plural(vm.vcpus as u64, "vCPU");
    check(
        "vm",
        CheckState::Ok,
        format!("{} (pid {}, {vcpus}), {qmp}", escape::safe(&vm.name), vm.pid),
    )
}

/// Checks the number of exits and of other events in a capture of one second.
pub fn exits(exits: u64, other_events: u64) -> Check {
    match (exits, other_events) {
        (1.., _) => check("exits", CheckState::Ok, format!("{exits} in one second")),
        (0, 1..) => {
            let message =
                "KVM reports other events but no exits: reports have counts, but no times";
            check("exits", CheckState::Note, message)
        }
        (0, 0) => check("exits", CheckState::Note, "none in one second: the VMs may be halted"),
    }
}
