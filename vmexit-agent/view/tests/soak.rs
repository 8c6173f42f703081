//! Memory of the agent over ten thousand intervals, in which VMs start and end: the metrics, the sum of measurements and
//! the recorder do not grow. The test is alone in its process, as it measures the memory of the process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use made_up::{SECOND, report_of, row};
use vmexit_common::{key::Key, vcpu::ISA_SVM};
use vmexit_core::{
    counters::{Interval, RowReading, Snapshot, Thread, VcpuReading},
    event::Event,
    measurement::{Began, Measurement},
    store::{
        MeasurementSum,
        archive::{Limits, Recorder},
    },
    vm::Vm,
};
use vmexit_view::metrics::{AgentUsage, Totals, expose};

/// Number of intervals, of one second each.
const INTERVALS: u64 = 10_000;
/// Number of intervals after which nothing grows any more: ended VMs have left the metrics, and old files are deleted.
const WARM_UP: u64 = 1_000;
/// Tolerated growth of memory after that, KiB.
const GROWTH: u64 = 1 << 10;
/// Limits of the recorder.
const LIMITS: Limits = Limits { retention: Duration::from_secs(600), bytes: 1 << 20 };

/// Number of intervals per write, as with a slow disk.
const WRITTEN: u64 = 5;

/// Number of intervals per scrape. Scrapes take most of the test's time.
const SCRAPED: u64 = 10;

/// Lifetimes of the VMs that run at the same time, intervals. All divide [`WARM_UP`], so each multiple of it has the same
/// VMs.
const LIVES: [u64; 8] = [2, 40, 5, 100, 8, 125, 20, 1_000];
/// vCPUs of each VM.
const VCPUS: u32 = 2;
/// Exits of a vCPU per interval for each exit code and port.
const EACH: u32 = 3;
/// Exit codes.
const CODES: [u32; 3] = [0x7b, 0x72, 0x400];
/// Number of ports.
const PORTS: u64 = 20;

/// One VM.
#[derive(Clone, Copy)]
struct Life {
    /// Index of its lifetime.
    place: u32,
    /// Number of earlier VMs with that index.
    generation: u64,
}

impl Life {
    /// The VMs of an interval.
    fn all(interval: u64) -> impl Iterator<Item = Self> {
        (0..).zip(LIVES).map(move |(place, life)| Self { place, generation: interval / life })
    }

    fn pid(self) -> u32 {
        (self.generation as u32 * LIVES.len() as u32 + self.place) % 30_000 + 1
    }

    /// Half of the VMs have the name of their predecessor, the others a new one.
    fn name(self) -> String {
        let Self { place, generation } = self;
        if place % 2 == 0 { format!("vm-{place}") } else { format!("vm-{place}-{generation:05}") }
    }

    fn vm(self) -> Vm {
        Vm { pid: self.pid(), name: self.name(), vcpus: VCPUS as usize, ..Vm::default() }
    }

    /// Counters of its vCPUs at an age, intervals.
    fn readings(self, age: u64) -> impl Iterator<Item = VcpuReading> {
        let exits = [(6_000, EACH * age as u32)];
        (0..VCPUS).map(move |id| {
            let of = |keys: &mut dyn Iterator<Item = Key>| -> Vec<RowReading> {
                keys.map(|key| row(key, &exits)).collect()
            };
            let reading = VcpuReading {
                thread: Thread {
                    pid: self.pid(),
                    tid: self.pid() + id,
                    since_ns: self.generation + 1,
                },
                vcpu_id: Some(id),
                isa: ISA_SVM,
                observed: u64::from(EACH) * age * CODES.len() as u64,
                reasons: of(&mut CODES.map(Key::reason).into_iter()),
                details: of(&mut (0..PORTS).map(|port| Key::pio(0x600 + port, 0, 4))),
                ..VcpuReading::default()
            };
            reading.with_places()
        })
    }
}

/// Snapshot after a number of intervals, with the VMs of the last one.
fn snapshot(intervals: u64) -> Snapshot {
    let vcpus = Life::all(intervals - 1)
        .zip(LIVES)
        .flat_map(|(life, length)| life.readings(intervals - life.generation * length));
    Snapshot { at_ns: intervals * SECOND, vcpus: vcpus.collect(), ..Snapshot::default() }
}

/// Resident memory of this process, KiB.
fn resident_kib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// Sizes of the files in a directory, bytes.
fn file_sizes(directory: &Path) -> Vec<u64> {
    fs::read_dir(directory).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

/// State that the agent keeps between intervals.
struct Agent {
    before: Snapshot,
    totals: Totals,
    waiting: MeasurementSum,
    recorder: Recorder,
}

impl Agent {
    /// Processes the interval that ends after a number of intervals since `start`.
    fn step(&mut self, intervals: u64, start: Instant) {
        let now = snapshot(intervals);
        let interval = Interval::between(&self.before, &now);
        self.before = now;
        let template = made_up::silent();
        let recording = Measurement {
            start: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(intervals)),
            began: Some(Began { boot: "one".into(), ns: intervals * SECOND }),
            events: Event::ALL.into(),
            vms: Life::all(intervals - 1).map(Life::vm).collect(),
            interval,
            steps: Vec::new(),
            ..template
        };
        let report = report_of(&recording);
        assert_eq!(report.accounting.unaccounted, 0);
        self.totals.add(&report, &recording.vms, start + Duration::from_secs(intervals));
        self.waiting.add(recording).unwrap();
        if intervals.is_multiple_of(WRITTEN) {
            let recording = std::mem::take(&mut self.waiting).finish().unwrap();
            self.recorder.write(&recording).unwrap();
        }
    }

    /// Answer to a scrape.
    fn metrics(&self) -> String {
        expose(&self.totals, AgentUsage::default()).unwrap().classic
    }
}

#[test]
fn churn_of_10k_intervals_keeps_memory_bounded() {
    // In memory, to spare the disk.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut agent = Agent {
        before: Snapshot::default(),
        totals: Totals::default(),
        waiting: MeasurementSum::default(),
        recorder: Recorder::open(directory.path(), LIMITS).unwrap(),
    };
    let start = Instant::now();
    let mut first = None;
    let (mut metrics, mut most_kib) = (String::new(), 0);
    for interval in 1..=INTERVALS {
        agent.step(interval, start);
        if interval.is_multiple_of(SCRAPED) {
            metrics = agent.metrics();
        }
        if interval % WARM_UP != 0 {
            continue;
        }
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        let now = (metrics.lines().count(), descriptors);
        let (kib, files) = (resident_kib(), file_sizes(directory.path()));
        println!("{interval}: {kib} KiB, {now:?} series and descriptors, {} files", files.len());
        assert_eq!(*first.get_or_insert(now), now);
        most_kib = if interval == WARM_UP { kib + GROWTH } else { most_kib };
        assert!(kib <= most_kib);
        assert!(files.iter().sum::<u64>() <= LIMITS.bytes && files.len() <= 30);
    }
    println!("{:?}", start.elapsed());
    let all = u64::from(EACH * VCPUS) * CODES.len() as u64 * LIVES.len() as u64 * INTERVALS;
    let observed = metrics.lines().find(|line| line.starts_with("vmexit_observed_total "));
    assert_eq!(observed, Some(format!("vmexit_observed_total {all}").as_str()));
}
