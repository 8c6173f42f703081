//! Random input: no panic, no control characters on the screen, and the cursor stays on its row.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use proptest::prelude::*;
use vmexit_core::{counters::Snapshot, testing::nasty};

use super::{
    super::keys::BINDINGS,
    Bench,
    recorded::{RUN, guests, silent, snapshots},
};

/// An input of the live view.
#[derive(Clone, Debug)]
enum RandomStep {
    /// An event of the terminal.
    Terminal(Event),
    /// A reading.
    Read {
        /// Bits of the rows that have new exits.
        rows: u64,
        /// Number of the vCPU that is missing, from 1.
        vcpus: u8,
    },
    /// The end of a VM, by index.
    Ends(usize),
}

fn steps() -> impl Strategy<Value = RandomStep> {
    let keys: Vec<KeyCode> = BINDINGS
        .iter()
        .flat_map(|binding| binding.chords)
        .map(|chord| chord.code)
        .chain("123456789xäz".chars().map(KeyCode::Char))
        .collect();
    let modifiers = prop_oneof![9 => Just(KeyModifiers::NONE), 1 => Just(KeyModifiers::CONTROL)];
    let key = (prop::sample::select(keys), modifiers).prop_map(|(code, modifiers)| {
        RandomStep::Terminal(Event::Key(KeyEvent::new(code, modifiers)))
    });
    let kinds = prop::sample::select(vec![
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::Down(MouseButton::Right),
        MouseEventKind::ScrollUp,
        MouseEventKind::ScrollDown,
        MouseEventKind::Moved,
    ]);
    let mouse = (kinds, 0..200u16, 0..60u16).prop_map(|(kind, column, row)| {
        let modifiers = KeyModifiers::NONE;
        RandomStep::Terminal(Event::Mouse(MouseEvent { kind, column, row, modifiers }))
    });
    let size = (1..220u16, 1..60u16)
        .prop_map(|(columns, lines)| RandomStep::Terminal(Event::Resize(columns, lines)));
    let read =
        (any::<u64>(), any::<u8>()).prop_map(|(rows, vcpus)| RandomStep::Read { rows, vcpus });
    prop_oneof![10 => key, 3 => mouse, 1 => size, 5 => read, 1 => (0..3usize).prop_map(RandomStep::Ends)]
}

/// The reading after `before`: rows with a set bit have as many more exits as in `all`, and one vCPU may be missing.
fn next(before: &Snapshot, all: &Snapshot, rows: u64, vcpus: u8) -> Snapshot {
    let mut next = Snapshot { at_ns: before.at_ns + RUN, ..before.clone() };
    for (at, vcpu) in next.vcpus.iter_mut().enumerate() {
        let mut bits = rows.rotate_left(at as u32 * 7);
        let readings = vcpu.reasons.iter_mut().chain(&mut vcpu.details);
        let added = &all.vcpus[at % all.vcpus.len()];
        for (reading, add) in readings.zip(added.reasons.iter().chain(&added.details)) {
            bits = bits.rotate_left(1);
            if bits & 1 == 1 && reading.row.key == add.row.key {
                reading.row.exits += add.row.exits;
                reading.row.unmatched += add.row.unmatched;
                reading.row.total_ns += add.row.total_ns;
                reading.row.user_ns += add.row.user_ns;
                if let (Some(mine), Some(more)) = (&mut reading.durations, &add.durations) {
                    mine.merge(more);
                }
            }
        }
    }
    let mut at = 0;
    next.vcpus.retain(|_| {
        at += 1;
        // As if the thread had ended.
        vcpus != at
    });
    next.loss.vcpu_limit += u64::from(rows & 0xff == 1);
    next
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_input_keeps_cursor_on_its_row(
        steps in prop::collection::vec(steps(), 1..60),
        name in nasty(),
        is_silent in any::<bool>(),
    ) {
        let readings = if is_silent { silent(&[1, 2]) } else { snapshots(&[1, 2]) };
        let all = readings[0].clone();
        let mut guests = guests();
        guests[0].name = name;
        let pids: Vec<u32> = guests.iter().map(|guest| guest.pid).collect();
        let mut bench = Bench::of(guests, readings, (80, 24));
        for step in steps {
            match step {
                RandomStep::Terminal(event) => drop(bench.handle(&event)),
                RandomStep::Read { rows, vcpus } => {
                    let (before, table) = (selected(&bench), bench.table());
                    let last = bench.snapshots.last().unwrap();
                    bench.read(next(last, &all, rows, vcpus));
                    let (after, filtered) = (selected(&bench), !bench.state.filter().0.is_empty());
                    if bench.table() == table && before.is_some() && !filtered {
                        prop_assert_eq!(before, after);
                    }
                }
                RandomStep::Ends(which) => {
                    if let Some(&pid) = pids.get(which) {
                        bench.ended.insert(pid);
                    }
                }
            }
            let (selected, offset) = bench.state.cursor();
            let rows = bench.state.rows().len();
            prop_assert!(selected < rows.max(1) && offset <= selected);
            let drawn = bench.screen();
            prop_assert!(drawn.chars().all(|c| c == '\n' || vmexit_core::escape::is_plain(c)));
        }
    }
}

fn selected(bench: &Bench) -> Option<super::super::Item> {
    bench.state.rows().get(bench.state.cursor().0).map(|row| row.item)
}
