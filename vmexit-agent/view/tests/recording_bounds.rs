//! Bounds of recordings: what is written is read back, and small files made for it take neither memory nor time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::time::{Duration, Instant};

use made_up::report_of;
use vmexit_core::{
    counters::{Count, Step, Thread, VcpuInterval},
    measurement::Measurement,
    store::{ENDED, MeasurementSum, file},
};

#[test]
fn recording_of_many_steps_and_pids_is_read_in_bounded_memory() {
    // Each process ID in one step only; a table of steps by process IDs would have 400 million cells.
    let mut recording = made_up::windows();
    let key = recording.interval.vcpus[0].reasons[0].key;
    let pids_per_step = 25;
    recording.steps = (0..4_096)
        .map(|at| Step {
            span_ns: 1,
            unwatched_ns: 0,
            counts: (0..pids_per_step)
                .map(|n| Count { pid: at * pids_per_step + n + 1, key, count: 1 })
                .collect(),
        })
        .collect();
    let one = recording.interval.vcpus[0].clone();
    recording.interval.vcpus = (1..20_000)
        .map(|pid| VcpuInterval {
            thread: Thread { pid, tid: pid, since_ns: 1 },
            reasons: Vec::new(),
            details: Vec::new(),
            observed: 1,
            ..one.clone()
        })
        .collect();
    let read = file::read(file::write(&recording).unwrap().as_slice()).unwrap();
    let report = report_of(&read);
    let cells: usize = report.vms.iter().map(|vm| vm.series.len()).sum();
    assert!(cells <= 1 << 18, "{cells}");
    let counted: u64 = report
        .vms
        .iter()
        .flat_map(|vm| &vm.series)
        .flat_map(|step| &step.parts)
        .map(|part| part.samples)
        .sum();
    assert_eq!(counted, 19_999);
}

#[test]
fn recording_with_large_steps_is_merged_in_time() {
    let mut recording = made_up::windows();
    let key = recording.interval.vcpus[0].reasons[0].key;
    let step = |from: u32| Step {
        span_ns: 1,
        unwatched_ns: 0,
        counts: (from..from + 100_000).map(|pid| Count { pid, key, count: 1 }).collect(),
    };
    recording.steps = vec![step(1), step(1_000_000)];
    let started = Instant::now();
    let mut sum = MeasurementSum::default();
    let added = (0..20).try_for_each(|_| sum.add(recording.clone()));
    assert!(
        added.is_ok() && started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    // As many small recordings after a large one as a file may have: refused, or added in time.
    let small = Measurement { steps: Vec::new(), ..made_up::windows() };
    let _ = (0..1 << 16).try_for_each(|_| sum.add(small.clone()));
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

#[test]
fn recording_beyond_limits_is_not_written() {
    type Change = fn(&mut Measurement);
    let changes: [Change; 4] = [
        |recording| recording.vms[0].name = "x".repeat(1 << 20),
        |recording| recording.steps = vec![Step::default(); 5_000],
        |recording| {
            let row = recording.interval.vcpus[0].details[0].clone();
            recording.interval.vcpus[0].details = vec![row; 2_000];
        },
        |recording| recording.vms = vec![recording.vms[0].clone(); 20_000],
    ];
    for change in changes {
        let mut recording = made_up::windows();
        change(&mut recording);
        let error = file::write(&recording).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn recording_of_vcpus_that_are_alike_reads_back() {
    let mut recording = made_up::windows();
    let one = recording.interval.vcpus[0].clone();
    recording.interval.vcpus =
        vec![VcpuInterval { reasons: vec![], details: vec![], ..one }; 60_000];
    let read = file::read(file::write(&recording).unwrap().as_slice()).unwrap();
    assert_eq!(read, recording);
}

#[test]
fn recording_sum_of_65000_ended_threads_keeps_every_count() {
    let one = made_up::windows();
    let vcpu = &one.interval.vcpus[0];
    let mut sum = MeasurementSum::default();
    let mut tid = 1;
    for _ in 0..80 {
        let mut recording = Measurement { steps: Vec::new(), ..one.clone() };
        recording.interval.vcpus = (0..1_000)
            .map(|_| {
                tid += 1;
                let thread = Thread { tid, ..vcpu.thread };
                let mut reasons = vcpu.reasons.clone();
                reasons.iter_mut().for_each(|row| row.durations = None);
                VcpuInterval { thread, reasons, details: Vec::new(), ..vcpu.clone() }
            })
            .collect();
        sum.add(recording).unwrap();
    }
    assert!(sum.merged_threads() > 14_000, "{}", sum.merged_threads());
    let sum = sum.finish().unwrap();
    let read = file::read(file::write(&sum).unwrap().as_slice()).unwrap();
    let accounting = report_of(&read).accounting;
    assert_eq!(accounting.observed, 80_000 * vcpu.observed);
    assert_eq!(accounting.recorded, 80_000 * vcpu.recorded());
    assert_eq!(accounting.in_flight, 80_000 * vcpu.in_flight_change);
    assert_eq!(accounting.unaccounted, 0);
    assert!(read.interval.vcpus.iter().any(|vcpu| vcpu.thread.tid == ENDED));
}
