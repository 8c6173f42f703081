//! `vmexit serve` while vCPUs and VMs come and go: after hundreds it has what it had after the first few, and
//! has counted every access.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vmexit_tests::{
    agent::{self, JsonReport},
    guest::{BareGuest, Expected, Qemu, RunningGuest, kvm_usable, vcpus::Here},
    served::{Ports, Served, ports},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// vCPUs at once, and there are no more books than that: each is somebody else's in the next round.
const BOOKS: u32 = 8;

/// Rounds until memory is what it will be.
const WARM_UP: u64 = 5;

/// More memory than after that, KiB.
const GROWTH: u64 = 1 << 10;

/// One at a time: each takes all books.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An agent with just so many books, that records too.
fn serve(directory: &TempDir) -> Served {
    let (books, directory) = (BOOKS.to_string(), directory.path().to_str().unwrap());
    let arguments = ["-i", "100ms", "--max-vcpus", &books, "--record", directory, "--size", "4MiB"];
    Served::start(&arguments).unwrap()
}

/// What the agent had taken.
struct Taken {
    descriptors: usize,
    resident_kib: u64,
}

impl Taken {
    /// Before any VM.
    fn by(served: &Served) -> Self {
        served.wait_intervals(2).unwrap();
        let descriptors = served.descriptors().unwrap();
        Self { descriptors, resident_kib: served.resident_kib().unwrap() }
    }

    /// After the first few.
    fn has_warmed_up(&mut self, served: &Served) {
        self.resident_kib = served.resident_kib().unwrap();
    }

    /// Demands that no more is taken now.
    fn assert_still(&self, served: &Served) {
        // Those that QEMU is asked by are closed in their own time.
        let deadline = Instant::now() + PATIENCE;
        while served.descriptors().unwrap() > self.descriptors && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
        let (descriptors, resident_kib) =
            (served.descriptors().unwrap(), served.resident_kib().unwrap());
        println!("{} KiB, then {resident_kib}; {descriptors} descriptors", self.resident_kib);
        assert!(descriptors <= self.descriptors);
        assert!(resident_kib <= self.resident_kib + GROWTH);
    }
}

/// Demands that nothing was lost, and that these are all VMs that there were.
fn assert_none_but(served: &Served, names: &[&str]) {
    for metric in ["vmexit_lost_total", "vmexit_missed_total"] {
        let lost = served.samples(metric).unwrap();
        assert!(!lost.is_empty() && lost.iter().all(|(_, value)| *value == 0.0), "{lost:?}");
    }
    let vms = served.samples("vmexit_vm_vcpus").unwrap();
    let vms: BTreeSet<&str> = vms.iter().map(|(labels, _)| labels["vm"].as_str()).collect();
    assert_eq!(vms, names.iter().copied().collect());
}

fn accesses(served: &Served, vm: &str) -> Ports {
    ports(&served.samples("vmexit_accesses_total").unwrap(), vm)
}

#[test]
fn churn_of_vcpus_keeps_counts_exact() {
    const BURSTS: u64 = 60;
    const TIMES: u32 = 20;
    let _alone = alone();
    kvm_usable().unwrap();
    let mut here = Here::create().unwrap();
    let directory = TempDir::new().unwrap();
    let served = serve(&directory);
    let mut taken = Taken::by(&served);
    for burst in 0..BURSTS {
        here.burst(BOOKS, TIMES).unwrap();
        // Read for the last time, and given back.
        served.wait_intervals(2).unwrap();
        if burst == WARM_UP {
            taken.has_warmed_up(&served);
        }
    }
    taken.assert_still(&served);
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let name = name.trim_end();
    assert_none_but(&served, &[name]);
    let each = BURSTS * u64::from(BOOKS * TIMES);
    let expected: Ports =
        Here::ports().map(|port| ((format!("{port:#x}"), "out".to_owned()), each)).collect();
    assert_eq!(accesses(&served, name), expected);
    assert_eq!(served.end().unwrap(), Some(0));

    let recorded = ["report", directory.path().to_str().unwrap(), "--format", "json"];
    let report = JsonReport::of(&agent::command(&recorded).unwrap().output().unwrap()).unwrap();
    let rows = report.ports(name).unwrap();
    assert_eq!(rows.len(), expected.len());
    assert!(rows.iter().all(|row| row.samples().unwrap() == each), "{rows:?}");
}

#[test]
fn churn_of_200_guests_keeps_counts_exact() {
    const GUESTS: u64 = 200;
    const ROUNDS: u64 = 20;
    let names: Vec<String> = (0..BOOKS).map(|number| format!("soak-{number}")).collect();
    let _alone = alone();
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let directory = TempDir::new().unwrap();
    let served = serve(&directory);
    let mut made: BTreeMap<&str, Expected> = BTreeMap::new();
    let mut taken = Taken::by(&served);
    for batch in 0..GUESTS / u64::from(BOOKS) {
        let start = |name| (name, Qemu::native(name).start(&guest).unwrap());
        let mut guests: Vec<(&str, RunningGuest)> = names.iter().map(|name| start(name)).collect();
        for (name, running) in &mut guests {
            running.wait_dots(ROUNDS, PATIENCE).unwrap();
            let expected = guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts());
            *made.entry(name).or_default() += expected;
        }
        // Who has come and gone between two readings has no name.
        served.wait_intervals(2).unwrap();
        for (number, (_, running)) in guests.iter_mut().enumerate() {
            // Shuts down; the others are killed.
            if number % 2 == 0 {
                running.signal("TERM").unwrap();
                running.wait_exit(PATIENCE).unwrap();
            }
        }
        drop(guests);
        served.wait_intervals(2).unwrap();
        if batch == WARM_UP {
            taken.has_warmed_up(&served);
        }
    }
    taken.assert_still(&served);
    assert_none_but(&served, &names.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, expected) in made {
        assert_eq!(accesses(&served, name), served.expected_ports(&expected).unwrap(), "{name}");
    }
    assert_eq!(served.end().unwrap(), Some(0));
}
