//! What stands between this host and a capture, one line each: what `vmexit doctor` shows.

use serde::Serialize;
use vmexit_common::layout::reason_in;
use vmexit_core::{escape, host::Host, units::plural, vm};

use crate::{
    discover,
    host::{self, btf::Btf, preflight, tracefs::Tracefs},
    probe::{
        self,
        compat::{OLDEST_LINUX, TRACEPOINTS},
        plan::{AttachPlan, ReadPath, Tracepoints},
    },
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Works, but with less or at a higher cost.
    Note,
    /// Stands in the way of a capture.
    Problem,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub state: CheckState,
    /// What was found, and what to do where that helps.
    pub message: String,
}

/// vCPUs that the stated memory is for.
const CROWDED: u32 = 2_000;

/// Looks at everything that can be seen without loading a program.
pub fn examine() -> Vec<Check> {
    let host = host::current();
    let mut checks = vec![permission(), kernel(&host), kvm(&host), btf(), tracefs()];
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

fn kvm(host: &Host) -> Check {
    match (preflight::kvm(), host.vendor, host.kvm_module.as_deref()) {
        (Err(error), ..) => check("kvm", CheckState::Problem, error.to_string()),
        (Ok(()), Some(vendor), module) => check(
            "kvm",
            CheckState::Ok,
            format!("{} ({})", vendor.title(), module.unwrap_or_default()),
        ),
        (Ok(()), None, Some(module)) => {
            let says = format!("{module}, which may not report exits at all");
            check("kvm", CheckState::Note, says)
        }
        (Ok(()), None, None) => {
            let says = "neither kvm_intel nor kvm_amd is loaded, so no VM can run";
            check("kvm", CheckState::Note, says)
        }
    }
}

fn btf() -> Check {
    match Btf::vmlinux() {
        Ok(btf) => check("btf", CheckState::Ok, format!("{} types", btf.len())),
        Err(error) => {
            check("btf", CheckState::Note, format!("{error}; classic tracepoints do without"))
        }
    }
}

fn tracefs() -> Check {
    match Tracefs::find() {
        Ok(_) => check("tracefs", CheckState::Ok, "mounted"),
        Err(error) => {
            check("tracefs", CheckState::Note, format!("{error}; raw tracepoints do without"))
        }
    }
}

/// Which way each tracepoint is read, and why.
fn tracepoints() -> Vec<Check> {
    let plan = match AttachPlan::make(Tracepoints::Auto) {
        Ok(plan) => plan,
        Err(error) => return vec![check("tracepoints", CheckState::Problem, error.to_string())],
    };
    TRACEPOINTS
        .iter()
        .map(|tracepoint| {
            let (state, says) = match tracepoint.name {
                "kvm_exit" => way(&plan.exit),
                "kvm_entry" => way(&plan.entry),
                name => match plan.details.get(name) {
                    Some(Ok(detail)) => way(detail),
                    Some(Err(error)) => {
                        (CheckState::Note, format!("not shown: {}; {error}", tracepoint.without))
                    }
                    None => (CheckState::Ok, "raw tracepoint".into()),
                },
            };
            let need = if tracepoint.event.is_none() { "needed" } else { "optional" };
            let since = tracepoint.since;
            check(tracepoint.name, state, format!("{says} ({need}, in Linux since {since})"))
        })
        .chain(matches!(plan.exit, ReadPath::Raw(_)).then(|| reads(&plan)))
        .collect()
}

/// What it costs to look into the kernel's structs.
fn reads(plan: &AttachPlan) -> Check {
    match (&plan.exit, plan.cast) {
        (_, Some(_)) => check("reads", CheckState::Ok, "plain loads from the kernel's structs"),
        (ReadPath::Raw(layout), None) if layout.reason_in == reason_in::ARGUMENT => {
            check("reads", CheckState::Ok, "none: the tracepoint passes the exit reason")
        }
        _ => {
            let says = "by a helper, some 80 instructions an exit more than from Linux 6.2 on";
            check("reads", CheckState::Note, says)
        }
    }
}

fn way<R, C>(way: &ReadPath<R, C>) -> (CheckState, String) {
    match way {
        ReadPath::Raw(_) => (CheckState::Ok, "raw tracepoint".into()),
        ReadPath::Classic(_, why) => {
            (CheckState::Note, format!("classic tracepoint, which costs more: {why}"))
        }
    }
}

fn memory() -> Check {
    let mib = |vcpus| probe::memory(vcpus).div_ceil(1 << 20);
    let says = format!(
        "at most {} MiB of kernel memory for {CROWDED} vCPUs, {} MiB for 64",
        mib(CROWDED),
        mib(64)
    );
    check("memory", CheckState::Ok, says)
}

fn vms() -> Vec<Check> {
    let found = match discover::find_all() {
        Ok(found) => found,
        Err(error) => return vec![check("vms", CheckState::Problem, error.to_string())],
    };
    let mut checks: Vec<Check> = found.vms.iter().map(vm).collect();
    if found.hidden > 0 {
        checks.push(check("vms", CheckState::Note, vmexit_view::hidden(found.hidden)));
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

/// Whether exits come, once a capture has been tried.
pub fn exits(seen: u64, others: u64) -> Check {
    match (seen, others) {
        (1.., _) => check("exits", CheckState::Ok, format!("{seen} seen in a second")),
        (0, 1..) => {
            let says = "this KVM reports other events but no exits: there will be counts, no times";
            check("exits", CheckState::Note, says)
        }
        (0, 0) => check("exits", CheckState::Note, "none seen in a second: the VMs may be halted"),
    }
}
