//! The list of running VMs, as a table or as JSON.

use std::fmt::Write as _;

use bytes::Bytes;

use serde::Serialize;
use vmexit_core::{
    escape::safe,
    units::plural,
    vm::{FoundVms, Vm, Vmm},
};

use super::{
    Format, json,
    table::{NONE, plain_lines},
};

/// Version of the JSON schema. It grows by one when a field is removed or changes its meaning.
const SCHEMA: u32 = 1;

/// The VMs in `format`, sorted by name, with a line feed at the end.
///
/// # Errors
/// A value that JSON cannot express; none is expected.
pub fn vms(found: &FoundVms, format: Format) -> Result<Bytes, serde_json::Error> {
    let mut vms: Vec<&Vm> = found.vms.iter().collect();
    vms.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
    match format {
        Format::Text => Ok(text(&vms, found).into()),
        Format::Json => json(&List::of(&vms, found.hidden)),
    }
}

/// Note that VMs may be missing from a list, as some processes could not be inspected. It names the capabilities that
/// are missing; if none is, the processes.
pub fn hidden(found: &FoundVms) -> String {
    let processes = plural(found.hidden as u64, "process");
    if !found.missing.is_empty() {
        let missing = found.missing.join(" and ");
        return format!(
            "{processes} can't be looked into, which takes {missing}: a VM could be among them"
        );
    }
    let mut pids: Vec<String> = found.hidden_pids.iter().map(ToString::to_string).collect();
    if found.hidden > pids.len() {
        pids.push("…".into());
    }
    format!(
        "{processes} can't be looked into ({}) and could be a VM by its name; the kernel refuses it for another reason \
         than a missing capability",
        pids.join(", ")
    )
}

fn text(vms: &[&Vm], found: &FoundVms) -> String {
    let uuids = vms.iter().any(|vm| vm.uuid.is_some());
    let mut columns = vec!["VM", "PID", "VMM", "Machine", "vCPUs", "Monitor"];
    if uuids {
        columns.insert(5, "UUID");
    }
    let rows = vms.iter().map(|vm| {
        let mut cells = vec![
            Some(safe(&vm.name)).filter(|name| !name.is_empty()).unwrap_or_else(|| NONE.into()),
            vm.pid.to_string(),
            format!("{}{}", vm.vmm.title(), if vm.libvirt { " (libvirt)" } else { "" }),
            vm.machine.name().map_or_else(|| NONE.into(), safe),
            vm.vcpus.to_string(),
            monitor(vm),
        ];
        if uuids {
            cells.insert(5, vm.uuid.clone().unwrap_or_else(|| NONE.into()));
        }
        cells
    });
    let lines = plain_lines(&columns, rows, |column| ["PID", "vCPUs"].contains(&columns[column]));
    let mut out = lines.join("\n") + "\n";
    if found.hidden > 0 {
        let _ = writeln!(out, "\n{}", hidden(found));
    }
    out
}

/// The first monitor socket and the number of others, or the reason why QEMU cannot be asked.
fn monitor(vm: &Vm) -> String {
    if let Some(why) = vm.no_qmp() {
        return format!("none: {why}");
    }
    let mut monitors = vm.monitors.iter();
    let first = monitors.next().map(ToString::to_string);
    let more = match monitors.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    first.unwrap_or_default() + &more
}

/// The list as a JSON document.
#[derive(Serialize)]
struct List<'a> {
    schema: u32,
    version: &'static str,
    hidden: usize,
    vms: Vec<ListedVm<'a>>,
}

/// One VM of the list.
#[derive(Serialize)]
struct ListedVm<'a> {
    name: &'a str,
    pid: u32,
    vmm: Vmm,
    libvirt: bool,
    machine: Option<&'a str>,
    uuid: Option<&'a str>,
    vcpus: usize,
    threads: Vec<ListedThread>,
    monitors: Vec<String>,
    no_monitor: Option<String>,
}

/// A vCPU thread.
#[derive(Serialize)]
struct ListedThread {
    id: u32,
    tid: u32,
}

impl<'a> List<'a> {
    fn of(vms: &[&'a Vm], hidden: usize) -> Self {
        let vms = vms.iter().map(|vm| ListedVm::of(vm)).collect();
        Self { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), hidden, vms }
    }
}

impl<'a> ListedVm<'a> {
    fn of(vm: &'a Vm) -> Self {
        let mut threads: Vec<_> =
            vm.threads.iter().map(|(&tid, &id)| ListedThread { id, tid }).collect();
        threads.sort_by_key(|thread| (thread.id, thread.tid));
        Self {
            name: &vm.name,
            pid: vm.pid,
            vmm: vm.vmm,
            libvirt: vm.libvirt,
            machine: vm.machine.name(),
            uuid: vm.uuid.as_deref(),
            vcpus: vm.vcpus,
            threads,
            monitors: vm.monitors.iter().map(ToString::to_string).collect(),
            no_monitor: vm.no_qmp().map(|why| why.to_string()),
        }
    }
}
