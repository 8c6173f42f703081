//! `vmexit serve` during a long churn of vCPUs and VMs: memory and file descriptors do not grow, and all accesses are
//! counted.

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
    guest::{BareGuest, Expected, Qemu, RunningGuest, kvm_usable, vcpus::InProcessVm},
    served::{Ports, Served, ports},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Number of vCPUs at once, and of stats blocks: each block goes to another vCPU in the next round.
const STATS_BLOCKS: u32 = 8;

/// Rounds until the memory has its final size.
const WARM_UP: u64 = 5;

/// Limit of growth after that, KiB.
const GROWTH: u64 = 1 << 10;

/// Lock for one test at a time: each takes all stats blocks.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts an agent with so many stats blocks that also records.
fn serve(directory: &TempDir) -> Served {
    let (blocks, directory) = (STATS_BLOCKS.to_string(), directory.path().to_str().unwrap());
    let arguments =
        ["-i", "100ms", "--max-vcpus", &blocks, "--record", directory, "--max-size", "4MiB"];
    Served::start(&arguments).unwrap()
}

/// Resources of the agent.
struct Footprint {
    descriptors: usize,
    resident_kib: u64,
}

impl Footprint {
    /// Resources before the first VM.
    fn by(served: &Served) -> Self {
        served.wait_intervals(2).unwrap();
        let descriptors = served.descriptors().unwrap();
        Self { descriptors, resident_kib: served.resident_kib().unwrap() }
    }

    /// Updates the memory, after the first rounds.
    fn has_warmed_up(&mut self, served: &Served) {
        self.resident_kib = served.resident_kib().unwrap();
    }

    /// Demands that the resources have not grown.
    fn assert_still(&self, served: &Served) {
        // Connections to QEMU are closed later.
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

/// Demands that nothing was lost and that there were no other VMs.
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
    let mut local = InProcessVm::create().unwrap();
    let directory = TempDir::new().unwrap();
    let served = serve(&directory);
    let mut taken = Footprint::by(&served);
    for burst in 0..BURSTS {
        local.burst(STATS_BLOCKS, TIMES).unwrap();
        // Time for the last reading of the stats blocks and their return.
        served.wait_intervals(2).unwrap();
        if burst == WARM_UP {
            taken.has_warmed_up(&served);
        }
    }
    taken.assert_still(&served);
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let name = name.trim_end();
    assert_none_but(&served, &[name]);
    let each = BURSTS * u64::from(STATS_BLOCKS * TIMES);
    let expected: Ports =
        InProcessVm::ports().map(|port| ((format!("{port:#x}"), "out".to_owned()), each)).collect();
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
    let names: Vec<String> = (0..STATS_BLOCKS).map(|number| format!("soak-{number}")).collect();
    let _alone = alone();
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let directory = TempDir::new().unwrap();
    let served = serve(&directory);
    let mut made: BTreeMap<&str, Expected> = BTreeMap::new();
    let mut taken = Footprint::by(&served);
    for batch in 0..GUESTS / u64::from(STATS_BLOCKS) {
        let start = |name| (name, Qemu::native(name).start(&guest).unwrap());
        let mut guests: Vec<(&str, RunningGuest)> = names.iter().map(|name| start(name)).collect();
        for (name, running) in &mut guests {
            running.wait_dots(ROUNDS, PATIENCE).unwrap();
            let expected = guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts());
            *made.entry(name).or_default() += expected;
        }
        // A VM that starts and ends between two readings has no name.
        served.wait_intervals(2).unwrap();
        for (number, (_, running)) in guests.iter_mut().enumerate() {
            // This one shuts down; the others are killed.
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
