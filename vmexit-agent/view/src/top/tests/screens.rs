//! Snapshots of each screen, at the size of a classic terminal and of a large window.

use std::collections::BTreeSet;

use ratatui::style::Modifier;
use vmexit_core::{counters::Snapshot, vm::Vm};

use super::{
    Bench,
    recorded::{RUN, guests, silent, snapshots},
};

/// Columns and lines.
const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

/// Multiples of the recorded run, cumulative: rates go up and down.
const TIMES: [u64; 6] = [1, 3, 4, 6, 7, 8];

fn bench(size: (u16, u16)) -> Bench {
    Bench::of(guests(), snapshots(&TIMES), size)
}

/// Compares the screens after these keys with the snapshots of a name.
fn assert_screens(name: &str, keys: &str) {
    assert_screens_of(name, |size| {
        let mut bench = bench(size);
        bench.press(keys);
        bench
    });
}

/// Compares the screens of these live views with the snapshots of a name.
fn assert_screens_of(name: &str, bench: impl Fn((u16, u16)) -> Bench) {
    for (columns, lines) in SIZES {
        let screen = bench((columns, lines)).screen();
        insta::assert_snapshot!(format!("{name}_{columns}x{lines}"), screen);
    }
}

#[test]
fn screen_of_vms() {
    assert_screens("vms", "");
}

#[test]
fn screen_of_exit_reasons() {
    assert_screens("reasons", "\n");
}

#[test]
fn screen_of_ports() {
    assert_screens("ports", "\n2j");
}

#[test]
fn screen_of_vcpus() {
    assert_screens("vcpus", "\n9");
}

#[test]
fn screen_of_vcpu() {
    assert_screens("vcpu", "\n9\n");
}

#[test]
fn screen_of_row() {
    assert_screens_of("row", |size| {
        let mut bench = Bench::of(guests(), snapshots(&TIMES[..2]), size);
        bench.press("\n2");
        snapshots(&TIMES).into_iter().skip(2).for_each(|snapshot| bench.read(snapshot));
        bench.press("\n");
        bench
    });
}

#[test]
fn screen_of_absolute_figures_since_baseline() {
    assert_screens("absolute", "\nc%");
}

#[test]
fn screen_of_help() {
    assert_screens("help", "?");
}

#[test]
fn screen_of_findings() {
    assert_screens("findings_of_the_selected", "jkf");
    assert_screens("findings", "\nf");
}

#[test]
fn screen_while_typing_filter() {
    assert_screens("typing", "\n2/0x7");
}

#[test]
fn screen_of_marked_rows_while_paused() {
    assert_screens("marked_and_paused", "\n2  p");
}

#[test]
fn screen_of_silent_host() {
    assert_screens_of("silent_vms", |size| Bench::of(guests(), silent(&TIMES), size));
    assert_screens_of("silent_vm", |size| {
        let mut bench = Bench::of(guests(), silent(&TIMES), size);
        bench.press("\n");
        bench
    });
}

#[test]
fn screen_with_losses_and_ended_vm() {
    assert_screens_of("banners", |size| {
        let mut bench = bench(size);
        let pid = guests()[1].pid;
        bench.ended = BTreeSet::from([pid]);
        let mut last = snapshots(&[9]).remove(0);
        last.at_ns = 7 * RUN;
        last.vcpus.retain(|vcpu| vcpu.thread.pid != pid);
        last.loss.vcpu_limit = 1_234;
        bench.read(last);
        bench
    });
}

#[test]
fn screen_without_vms() {
    assert_screens_of("empty", |size| {
        let at_ns = 1_000_000_000;
        Bench::of(Vec::new(), vec![Snapshot { at_ns, ..Snapshot::default() }], size)
    });
}

#[test]
fn screen_of_hostile_names_keeps_cells() {
    let mut guests = guests();
    for (guest, name) in guests.iter_mut().zip([
        "\x1b]0;owned\x07\x1b[2J\n\r\t\u{202e}\u{2028}\u{200b}evil",
        "サーバーサーバーサーバーサーバーサーバーサーバーe\u{301}\u{301}\u{301}\u{301}",
    ]) {
        *guest = Vm { name: name.into(), ..guest.clone() };
    }
    let mut bench = Bench::of(guests, snapshots(&TIMES), (80, 24));
    insta::assert_snapshot!("hostile_80x24", bench.screen());
    bench.press("\n\n");
    assert!(bench.screen().chars().all(|c| c == '\n' || vmexit_core::escape::is_plain(c)));
}

#[test]
fn screen_selection_is_visible_without_colours() {
    let bench = bench((80, 24));
    let drawn = bench.drawn();
    let reversed = |line: u16| drawn.buffer()[(3, line)].modifier.contains(Modifier::REVERSED);
    let selected: Vec<u16> = (0..24).filter(|&line| reversed(line)).collect();
    assert_eq!(selected.len(), 1);
    assert_eq!(drawn.buffer()[(0, selected[0])].symbol(), "▸");
}

#[test]
fn screen_of_any_size_does_not_panic() {
    for size in [(1, 1), (2, 1), (10, 3), (20, 5), (40, 10), (300, 100), (1, 60), (400, 1)] {
        for keys in ["", "\n", "\n2\n", "\n9\n\n", "?", "f", "/x", "\nc%"] {
            let mut bench = bench(size);
            bench.press(keys);
            bench.screen();
        }
    }
}
