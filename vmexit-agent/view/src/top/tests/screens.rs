//! Each screen, drawn: at the size of a terminal of old, and at that of a large window.

use std::collections::BTreeSet;

use ratatui::style::Modifier;
use vmexit_core::{counters::Snapshot, vm::Vm};

use super::{
    Bench,
    recorded::{RUN, guests, silent, snapshots},
};

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

/// Rates that go up and down.
const TIMES: [u64; 6] = [1, 3, 4, 6, 7, 8];

fn bench(size: (u16, u16)) -> Bench {
    Bench::of(guests(), snapshots(&TIMES), size)
}

/// Draws what keys lead to, at both sizes.
fn drawn(name: &str, keys: &str) {
    drawn_of(name, |size| {
        let mut bench = bench(size);
        bench.press(keys);
        bench
    });
}

fn drawn_of(name: &str, bench: impl Fn((u16, u16)) -> Bench) {
    for (columns, lines) in SIZES {
        let screen = bench((columns, lines)).screen();
        insta::assert_snapshot!(format!("{name}_{columns}x{lines}"), screen);
    }
}

#[test]
fn the_list_of_vms() {
    drawn("vms", "");
}

#[test]
fn a_vm_by_exit_reason() {
    drawn("reasons", "\n");
}

#[test]
fn a_vm_by_port() {
    drawn("ports", "\n2j");
}

#[test]
fn a_vm_by_vcpu() {
    drawn("vcpus", "\n9");
}

#[test]
fn a_vcpu() {
    drawn("vcpu", "\n9\n");
}

#[test]
fn a_row() {
    drawn_of("row", |size| {
        let mut bench = Bench::of(guests(), snapshots(&TIMES[..2]), size);
        bench.press("\n2");
        snapshots(&TIMES).into_iter().skip(2).for_each(|snapshot| bench.tick(snapshot));
        bench.press("\n");
        bench
    });
}

#[test]
fn absolute_since_the_baseline() {
    drawn("absolute", "\nc%");
}

#[test]
fn help() {
    drawn("help", "?");
}

#[test]
fn findings() {
    drawn("findings_of_the_selected", "jkf");
    drawn("findings", "\nf");
}

#[test]
fn a_filter_being_typed() {
    drawn("typing", "\n2/0x7");
}

#[test]
fn marked_and_paused() {
    drawn("marked_and_paused", "\n2  p");
}

#[test]
fn a_silent_host() {
    drawn_of("silent_vms", |size| Bench::of(guests(), silent(&TIMES), size));
    drawn_of("silent_vm", |size| {
        let mut bench = Bench::of(guests(), silent(&TIMES), size);
        bench.press("\n");
        bench
    });
}

#[test]
fn losses_and_a_vm_that_went_away() {
    drawn_of("banners", |size| {
        let mut bench = bench(size);
        let pid = guests()[1].pid;
        bench.ended = BTreeSet::from([pid]);
        let mut last = snapshots(&[9]).remove(0);
        last.at_ns = 7 * RUN;
        last.vcpus.retain(|vcpu| vcpu.thread.pid != pid);
        last.loss.vcpu_limit = 1_234;
        bench.tick(last);
        bench
    });
}

#[test]
fn no_vm_at_all() {
    drawn_of("empty", |size| {
        let at_ns = 1_000_000_000;
        Bench::of(Vec::new(), vec![Snapshot { at_ns, ..Snapshot::default() }], size)
    });
}

#[test]
fn hostile_names_stay_in_their_cells() {
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
fn what_is_selected_shows_without_colours_too() {
    let bench = bench((80, 24));
    let drawn = bench.drawn();
    let reversed = |line: u16| drawn.buffer()[(3, line)].modifier.contains(Modifier::REVERSED);
    let selected: Vec<u16> = (0..24).filter(|&line| reversed(line)).collect();
    assert_eq!(selected.len(), 1);
    assert_eq!(drawn.buffer()[(0, selected[0])].symbol(), "▸");
}

#[test]
fn any_size_will_do() {
    for size in [(1, 1), (2, 1), (10, 3), (20, 5), (40, 10), (300, 100), (1, 60), (400, 1)] {
        for keys in ["", "\n", "\n2\n", "\n9\n\n", "?", "f", "/x", "\nc%"] {
            let mut bench = bench(size);
            bench.press(keys);
            bench.screen();
        }
    }
}
