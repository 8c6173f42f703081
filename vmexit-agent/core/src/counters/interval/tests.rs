//! Intervals of rows that grow, are evicted and are reused.

use proptest::prelude::*;
use vmexit_common::{
    histogram::{bounds_of, bucket_of},
    stats::StatsRow,
};

use super::*;

fn reading(durations: &[u64]) -> RowReading {
    let mut reading = RowReading {
        row: StatsRow { key: Key::pio(0x608, 0, 4).0, ..StatsRow::default() },
        durations: Some(Box::default()),
        ..RowReading::default()
    };
    for &ns in durations {
        reading.row.min_ns = if reading.row.exits == 0 { ns } else { reading.row.min_ns.min(ns) };
        reading.row.max_ns = reading.row.max_ns.max(ns);
        reading.row.exits += 1;
        reading.row.total_ns += ns;
        reading.durations.as_mut().unwrap().record(ns, 1);
    }
    reading
}

fn between(before: &[u64], all: &[u64]) -> RowInterval {
    rows_between(&[reading(before)], &[reading(all)]).remove(0)
}

#[test]
fn extremes_reached_in_interval_are_exact() {
    let row = between(&[1_000, 2_000], &[1_000, 2_000, 500, 9_999]);
    assert_eq!((row.exits, row.total_ns), (2, 10_499));
    assert_eq!((row.min_ns, row.max_ns), (Some(500), Some(9_999)));
}

#[test]
fn extremes_from_before_interval_are_bounded_by_buckets() {
    let row = between(&[100, 1_000_000], &[100, 1_000_000, 5_000]);
    let (low, high) = bounds_of(bucket_of(5_000)).unwrap();
    assert_eq!((row.exits, row.min_ns, row.max_ns), (1, Some(low), Some(high - 1)));
}

#[test]
fn extremes_without_histograms_are_known_only_if_new() {
    let counts = |durations: &[u64]| RowReading { durations: None, ..reading(durations) };
    let between = |before, after| rows_between(&[counts(before)], &[counts(after)]).remove(0);
    let row = between(&[100, 900], &[100, 900, 500]);
    assert_eq!((row.timed, row.total_ns, row.min_ns, row.max_ns), (1, 500, None, None));
    let mut row = between(&[100, 900], &[100, 900, 50, 1_000]);
    assert_eq!((row.min_ns, row.max_ns), (Some(50), Some(1_000)));
    row.merge(&between(&[100, 900], &[100, 900, 500]));
    assert_eq!((row.timed, row.min_ns, row.durations), (3, None, None));
}

#[test]
fn row_without_new_exits_is_omitted() {
    assert!(rows_between(&[reading(&[700])], &[reading(&[700])]).is_empty());
}

#[test]
fn new_row_between_old_rows_is_counted_from_zero() {
    let named = |key: u32, durations: &[u64]| {
        let mut reading = reading(durations);
        reading.row.key = Key::reason(key).0;
        reading.place = key as u16;
        reading
    };
    let before = [named(1, &[100]), named(3, &[300])];
    let after = [named(1, &[100, 100]), named(2, &[200]), named(3, &[300, 300, 300])];
    let rows = rows_between(&before, &after);
    let exits: Vec<u64> = rows.iter().map(|row| row.exits).collect();
    assert_eq!(exits, [1, 1, 2]);
}

#[test]
fn merged_rows_keep_extremes_of_both() {
    let mut row = RowInterval::since_zero(&reading(&[700, 900]));
    row.merge(&RowInterval::since_zero(&reading(&[300])));
    row.merge(&RowInterval::since_zero(&reading(&[])));
    assert_eq!((row.exits, row.timed, row.total_ns), (3, 3, 1_900));
    assert_eq!((row.min_ns, row.max_ns), (Some(300), Some(900)));
}

/// Stats block with four evictable rows.
struct FewRows {
    rows: [RowReading; 4],
    other: RowReading,
}

impl FewRows {
    fn new() -> Self {
        let row = |place| {
            let mut row = reading(&[]);
            (row.place, row.row.key) = (place, Key::NONE.0);
            row
        };
        let mut other = row(4);
        other.row.key = Key::pio(0, 0, 1).other().0;
        Self { rows: [0, 1, 2, 3].map(row), other }
    }

    fn record(&mut self, port: u64, ns: u64) {
        let key = Key::pio(port, 0, 1).0;
        let place = [key, Key::NONE.0]
            .iter()
            .find_map(|wanted| self.rows.iter().position(|row| row.row.key == *wanted));
        let row = place.map_or(&mut self.other, |place| &mut self.rows[place]);
        if place.is_some() {
            row.row.key = key;
        }
        let mut one = reading(&[ns]);
        one.extra_accesses = 1;
        row.merge(&one);
    }

    fn evict(&mut self, place: usize) {
        let row = &mut self.rows[place];
        self.other.merge(row);
        let generation = row.generation + 1;
        *row = RowReading { place: row.place, generation, ..reading(&[]) };
        row.row.key = Key::NONE.0;
    }

    fn read(&self) -> Vec<RowReading> {
        let rows = self.rows.iter().chain([&self.other]);
        rows.filter(|row| row.row.is_used()).cloned().collect()
    }
}

#[test]
fn evicted_row_counters_from_before_interval_are_subtracted() {
    let mut stats = FewRows::new();
    [(1, 5_000), (1, 6_000), (2, 700)].into_iter().for_each(|(port, ns)| stats.record(port, ns));
    let before = stats.read();
    stats.record(1, 7_000);
    stats.evict(0);
    [(3, 90), (3, 91), (1, 92)].into_iter().for_each(|(port, ns)| stats.record(port, ns));
    let rows = rows_between(&before, &stats.read());
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.key.kind(), row.key.value(), row.exits, row.total_ns, row.max_ns))
        .collect();
    let (pio, other) = (Some(Kind::Pio), Some(Kind::Other));
    assert_eq!(
        shown,
        [
            (pio, 3, 2, 181, Some(91)),
            (pio, 1, 1, 92, Some(92)),
            (other, Kind::Pio as u64, 1, 7_000, Some(7_000)),
        ]
    );
}

proptest! {
    #[test]
    fn evictions_keep_sum_of_kind(
        steps in prop::collection::vec((0..12_u64, 0..6_usize), 0..300),
    ) {
        let mut stats = FewRows::new();
        let mut before = stats.read();
        let mut events: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (at, (port, step)) in steps.into_iter().enumerate() {
            match step {
                0 => stats.evict(port as usize % 4),
                1 => {
                    let after = stats.read();
                    let rows = rows_between(&before, &after);
                    let all: Vec<u64> = events.values().flatten().copied().collect();
                    let sum = |field: fn(&RowInterval) -> u64| rows.iter().map(field).sum::<u64>();
                    prop_assert_eq!(sum(|row| row.exits), all.len() as u64);
                    prop_assert_eq!(sum(|row| row.timed), all.len() as u64);
                    prop_assert_eq!(sum(|row| row.extra_accesses), all.len() as u64);
                    prop_assert_eq!(sum(|row| row.total_ns), all.iter().sum::<u64>());
                    let durations = |row: &RowInterval| row.durations.as_ref().unwrap().total();
                    prop_assert_eq!(sum(durations), all.len() as u64);
                    for row in rows.iter().filter(|row| row.key.kind() == Some(Kind::Pio)) {
                        let own = &events[&row.key.value()];
                        prop_assert!(row.exits <= own.len() as u64);
                        let shortest = own.iter().min().map(|&ns| bucket_of(ns));
                        prop_assert!(shortest <= row.min_ns.map(bucket_of));
                    }
                    (before, events) = (after, BTreeMap::new());
                }
                _ => {
                    let ns = 64 + at as u64;
                    stats.record(port, ns);
                    events.entry(port).or_default().push(ns);
                }
            }
        }
    }
}
