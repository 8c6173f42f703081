//! Made-up exits with times, for hosts whose KVM reports port accesses but no exits.

use vmexit_common::key::Key;
use vmexit_core::counters::{Durations, RowReading, Snapshot, VcpuReading};

/// Exit codes of SVM (`arch/x86/include/uapi/asm/svm.h`): msr, io, npf, cpuid, interrupt.
const CODES: [u32; 5] = [0x07c, 0x07b, 0x400, 0x072, 0x060];

/// Shortest duration, nanoseconds. Each further one is longer by a third.
const SHORTEST_NS: f64 = 3_000.0;

/// Number of different durations in a row.
const DURATIONS: u32 = 8;

/// Turns the events of each row into exits, and counts their sum for each of some exit reasons. All counters grow from
/// snapshot to snapshot.
pub(crate) fn add_times(snapshot: &mut Snapshot) {
    for VcpuReading { observed, reasons, details, .. } in &mut snapshot.vcpus {
        let mut exits = 0;
        for reading in details.iter_mut() {
            let row = &mut reading.row;
            row.exits += row.unmatched;
            row.unmatched = 0;
            exits += row.exits;
            time(reading);
        }
        if reasons.is_empty() && exits > 0 {
            *observed = exits * CODES.len() as u64;
            reasons.extend((0..).zip(CODES).map(|(place, code)| {
                let mut reading = details[0].clone();
                reading.place = place;
                reading.row.key = Key::reason(code).0;
                reading.row.exits = exits;
                time(&mut reading);
                reading
            }));
        }
    }
}

/// Distributes a row's exits evenly over the durations.
fn time(reading: &mut RowReading) {
    let row = &mut reading.row;
    let mut durations = Durations::default();
    row.total_ns = 0;
    for duration in 0..DURATIONS {
        let ns = (SHORTEST_NS * 1.33f64.powi(duration as i32)) as u64;
        let share = (row.exits + u64::from(duration)) / u64::from(DURATIONS);
        durations.record(ns, share);
        row.total_ns += share * ns;
        row.max_ns = ns;
    }
    row.min_ns = SHORTEST_NS as u64;
    reading.durations = reading.durations.is_some().then(|| Box::new(durations));
}

#[cfg(test)]
mod tests {
    use vmexit_common::stats::StatsRow;
    use vmexit_core::counters::Interval;

    use super::*;

    fn snapshot(events: u64) -> Snapshot {
        let detail = |place, port| RowReading {
            place,
            row: StatsRow { key: Key::pio(port, 1, 1).0, unmatched: events, ..StatsRow::default() },
            durations: Some(Box::default()),
            ..RowReading::default()
        };
        let mut snapshot = Snapshot::default();
        snapshot.vcpus.push(VcpuReading {
            details: vec![detail(0, 0x70), detail(1, 0x71)],
            ..VcpuReading::default()
        });
        add_times(&mut snapshot);
        snapshot
    }

    #[test]
    fn made_up_times_cover_all_exits() {
        let interval = Interval::between(&snapshot(1_001), &snapshot(1_013));
        let vcpu = &interval.vcpus[0];
        assert_eq!((vcpu.reasons.len(), vcpu.details.len()), (CODES.len(), 2));
        assert!(
            vcpu.details.iter().all(|row| (row.exits, row.timed, row.unmatched) == (12, 12, 0))
        );
        assert!(vcpu.reasons.iter().all(|row| (row.exits, row.timed) == (24, 24)));
        assert_eq!((vcpu.observed, vcpu.unaccounted()), (24 * CODES.len() as u64, 0));
    }
}
