//! Snapshots of a recorded run. `two-vms.json` is an output of `vmexit capture --by vcpu --format json` of two bare guests
//! in the AMD lab. The first VM gets a copy of the other's vCPU as its second one.

use serde_json::Value;
use vmexit_common::{
    key::{Key, Kind},
    stats::{Halts, StatsRow},
    vcpu::ISA_SVM,
};
use vmexit_core::{
    counters::{Durations, RowReading, Snapshot, Thread, VcpuReading},
    vm::{Vm, Vmm},
};

/// Length of the run, nanoseconds.
pub(super) const RUN: u64 = 8_000_000_000;

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../../tests/fixtures/two-vms.json")).unwrap()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

/// The VMs of the run.
pub(super) fn guests() -> Vec<Vm> {
    let recorded = recorded();
    let vms = recorded["vms"].as_array().unwrap().iter();
    vms.map(|vm| Vm {
        pid: number(vm, "pid") as u32,
        name: vm["name"].as_str().unwrap().into(),
        vmm: Vmm::Qemu,
        ..Vm::default()
    })
    .collect()
}

/// Readings, [`RUN`] apart. Each has the counters of the run multiplied by one of `times`.
pub(super) fn snapshots(times: &[u64]) -> Vec<Snapshot> {
    let recorded = recorded();
    let vms = || recorded["vms"].as_array().unwrap().iter();
    let vcpus = |times: u64| {
        let mut vcpus: Vec<VcpuReading> = vms().flat_map(|vm| vcpus(vm, times)).collect();
        let (last, pid) = (vcpus[vcpus.len() - 1].clone(), vcpus[0].thread.pid);
        let thread = Thread { pid, tid: vcpus[0].thread.tid + 1_000, since_ns: 1 };
        vcpus.push(VcpuReading { thread, vcpu_id: Some(1), ..last });
        vcpus
    };
    let reading =
        |(at, &times)| Snapshot { at_ns: at * RUN, vcpus: vcpus(times), ..Snapshot::default() };
    (1..).zip(times).map(reading).collect()
}

/// The same readings on a host whose KVM reports no exits.
pub(super) fn silent(times: &[u64]) -> Vec<Snapshot> {
    let mut snapshots = snapshots(times);
    for vcpu in snapshots.iter_mut().flat_map(|snapshot| &mut snapshot.vcpus) {
        let details = std::mem::take(&mut vcpu.details).into_iter().map(|reading| RowReading {
            row: StatsRow {
                key: reading.row.key,
                unmatched: reading.row.exits,
                ..StatsRow::default()
            },
            extra_accesses: reading.extra_accesses,
            durations: Some(Box::default()),
            ..RowReading::default()
        });
        *vcpu = VcpuReading {
            thread: vcpu.thread,
            vcpu_id: vcpu.vcpu_id,
            halts: vcpu.halts,
            details: details.collect(),
            ..VcpuReading::default()
        }
        .with_places();
    }
    snapshots
}

fn vcpus(vm: &Value, times: u64) -> Vec<VcpuReading> {
    let pid = number(vm, "pid") as u32;
    let vcpus = vm["vcpus"].as_array().unwrap().iter();
    vcpus
        .map(|vcpu| {
            let rows = |rows: &Value, key: fn(&Value) -> Key| -> Vec<RowReading> {
                rows.as_array()
                    .into_iter()
                    .flatten()
                    .map(|row| reading(row, key(row), times))
                    .collect()
            };
            let reasons = rows(&vcpu["exits"], |row| Key::reason(number(row, "code") as u32));
            let details = vcpu["details"].as_object().unwrap().values();
            let halts = &vcpu["total"]["halts"];
            let observed: u64 = reasons.iter().map(|reading| reading.row.exits).sum();
            VcpuReading {
                thread: Thread { pid, tid: number(vcpu, "tid") as u32, since_ns: 1 },
                vcpu_id: vcpu["id"].as_u64().map(|id| id as u32),
                isa: ISA_SVM,
                observed,
                halts: Halts {
                    blocked: number(halts, "slept") * times,
                    blocked_ns: number(halts, "slept_ns") * times,
                    polled: number(halts, "polled") * times,
                    polled_ns: number(halts, "polled_ns") * times,
                },
                details: details.flat_map(|table| rows(table, detail)).collect(),
                reasons,
                ..VcpuReading::default()
            }
            .with_places()
        })
        .collect()
}

fn detail(row: &Value) -> Key {
    let (number, written) =
        (number(row, "number"), matches!(row["direction"].as_str(), Some("out" | "write")));
    let size = row["sizes"][0].as_u64().unwrap_or(0);
    let key = match row["kind"].as_str().unwrap() {
        "port" => Key::pio(number, written.into(), size),
        "mmio" => Key::mmio(number, written.into(), size),
        "msr" => Key::msr(number, written.into()),
        "cpuid" => Key::plain(Kind::Cpuid, number),
        "fault" => Key::plain(Kind::Fault, number),
        "userspace" => Key::plain(Kind::Userspace, number),
        other => panic!("a {other} in the recorded run"),
    };
    if row["number"].is_null() { key.other() } else { key }
}

fn reading(row: &Value, key: Key, times: u64) -> RowReading {
    let mut durations = Durations::default();
    for bucket in row["histogram"].as_array().unwrap() {
        durations.record(number(bucket, "from_ns"), number(bucket, "count") * times);
    }
    let exits = number(row, "samples") * times;
    let kernel = StatsRow {
        key: key.0,
        exits,
        untimed: exits - number(row, "timed") * times,
        total_ns: number(row, "total_ns") * times,
        user_ns: number(row, "userspace_ns") * times,
        min_ns: number(row, "min_ns"),
        max_ns: number(row, "max_ns"),
        ..StatsRow::default()
    };
    RowReading { row: kernel, durations: Some(Box::new(durations)), ..RowReading::default() }
}
