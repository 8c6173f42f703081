//! An agent's day, compressed: ten thousand intervals of VMs that come and go, through all that serving and
//! recording keep. Nothing but the sums grows. Alone in its process, for it measures that.

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

/// Of a second each.
const INTERVALS: u64 = 10_000;
/// After so many, VMs that are gone have left the sums, and files the disk: nothing grows from here on.
const WARM_UP: u64 = 1_000;
/// More memory than then, KiB.
const GROWTH: u64 = 1 << 10;
const LIMITS: Limits = Limits { retention: Duration::from_secs(600), bytes: 1 << 20 };

/// Intervals that are written at once: as where the disk takes its time.
const WRITTEN: u64 = 5;

/// Intervals from scrape to scrape, which take most of the time here.
const SCRAPED: u64 = 10;

/// VMs at once. Each lives for a divisor of a thousand intervals, so that every thousandth has as many as any.
const LIVES: [u64; 8] = [2, 40, 5, 100, 8, 125, 20, 1_000];
const VCPUS: u32 = 2;
/// Exits of a vCPU in each interval of its life, for each of these codes and ports.
const EACH: u32 = 3;
const CODES: [u32; 3] = [0x7b, 0x72, 0x400];
const PORTS: u64 = 20;

/// A VM's life: which of those at once, and the how manieth of these.
#[derive(Clone, Copy)]
struct Life {
    place: u32,
    generation: u64,
}

impl Life {
    /// Who lives in an interval, or has ended at its beginning.
    fn all(interval: u64) -> impl Iterator<Item = Self> {
        (0..).zip(LIVES).map(move |(place, life)| Self { place, generation: interval / life })
    }

    fn pid(self) -> u32 {
        (self.generation as u32 * LIVES.len() as u32 + self.place) % 30_000 + 1
    }

    /// Half of them come back under their name; nobody has heard of the others before.
    fn name(self) -> String {
        let Self { place, generation } = self;
        if place % 2 == 0 { format!("vm-{place}") } else { format!("vm-{place}-{generation:05}") }
    }

    fn vm(self) -> Vm {
        Vm { pid: self.pid(), name: self.name(), vcpus: VCPUS as usize, ..Vm::default() }
    }

    /// The books of its vCPUs after so many intervals.
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

/// What the kernel has after so many intervals: those that live, and the last of those that have just ended.
fn snapshot(intervals: u64) -> Snapshot {
    let vcpus = Life::all(intervals - 1)
        .zip(LIVES)
        .flat_map(|(life, length)| life.readings(intervals - life.generation * length));
    Snapshot { at_ns: intervals * SECOND, vcpus: vcpus.collect(), ..Snapshot::default() }
}

/// What this process has taken.
fn resident_kib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

fn files(directory: &Path) -> Vec<u64> {
    fs::read_dir(directory).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

/// All that is kept from interval to interval.
struct Agent {
    before: Snapshot,
    totals: Totals,
    waiting: MeasurementSum,
    recorder: Recorder,
}

impl Agent {
    /// One more interval.
    fn step(&mut self, intervals: u64, begun: Instant) {
        let now = snapshot(intervals);
        let interval = Interval::between(&self.before, &now);
        self.before = now;
        let template = made_up::silent();
        let recording = Measurement {
            start: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(intervals)),
            began: Some(Began { boot: "one".into(), ns: intervals * SECOND }),
            events: Event::ALL.into(),
            vms: Life::all(intervals - 1).map(|life| life.vm()).collect(),
            interval,
            steps: Vec::new(),
            ..template
        };
        let report = report_of(&recording);
        assert_eq!(report.accounting.unaccounted, 0);
        self.totals.add(&report, &recording.vms, begun + Duration::from_secs(intervals));
        self.waiting.add(recording).unwrap();
        if intervals.is_multiple_of(WRITTEN) {
            let recording = std::mem::take(&mut self.waiting).finish().unwrap();
            self.recorder.write(&recording).unwrap();
        }
    }

    /// What Prometheus gets.
    fn metrics(&self) -> String {
        expose(&self.totals, AgentUsage::default()).unwrap().classic
    }
}

#[test]
fn churn_of_10k_intervals_keeps_memory_bounded() {
    // In memory, for the disk's sake.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut agent = Agent {
        before: Snapshot::default(),
        totals: Totals::default(),
        waiting: MeasurementSum::default(),
        recorder: Recorder::open(directory.path(), LIMITS).unwrap(),
    };
    let begun = Instant::now();
    let mut first = None;
    let (mut metrics, mut most_kib) = (String::new(), 0);
    for interval in 1..=INTERVALS {
        agent.step(interval, begun);
        if interval.is_multiple_of(SCRAPED) {
            metrics = agent.metrics();
        }
        if interval % WARM_UP != 0 {
            continue;
        }
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        let now = (metrics.lines().count(), descriptors);
        let (kib, files) = (resident_kib(), files(directory.path()));
        println!("{interval}: {kib} KiB, {now:?} series and descriptors, {} files", files.len());
        assert_eq!(*first.get_or_insert(now), now);
        most_kib = if interval == WARM_UP { kib + GROWTH } else { most_kib };
        assert!(kib <= most_kib);
        assert!(files.iter().sum::<u64>() <= LIMITS.bytes && files.len() <= 30);
    }
    println!("{:?}", begun.elapsed());
    let all = u64::from(EACH * VCPUS) * CODES.len() as u64 * LIVES.len() as u64 * INTERVALS;
    let observed = metrics.lines().find(|line| line.starts_with("vmexit_observed_total "));
    assert_eq!(observed, Some(format!("vmexit_observed_total {all}").as_str()));
}
