//! Actions of keys and of the mouse.

use crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use vmexit_core::event;

use super::{
    super::{
        Effect,
        state::{Tab, TableId},
    },
    Bench,
    recorded::{RUN, guests, snapshots},
};

fn bench() -> Bench {
    Bench::of(guests(), snapshots(&[1, 2, 3]), (80, 24))
}

/// A live view with the ports of the first VM.
fn opened() -> Bench {
    let mut bench = bench();
    bench.press("\n2");
    bench
}

/// Labels of all rows.
fn labels(bench: &Bench) -> Vec<String> {
    bench.state.rows().iter().map(|row| row.label.clone()).collect()
}

#[test]
fn open_vm_requests_durations_and_back_closes_it() {
    let mut bench = bench();
    assert_eq!(bench.table(), TableId::Vms);
    let pid = bench.state.selected();
    assert_eq!(bench.press("\n"), Effect::Refresh);
    assert_eq!((bench.state.open(), bench.table()), (pid, TableId::Tab(Tab::Reasons)));
    assert_eq!(bench.press("\n"), Effect::Show);
    assert_eq!(bench.table(), TableId::RowVcpus);
    assert_eq!(bench.press("\n"), Effect::None, "a vCPU of a row cannot be opened");
    bench.press("h");
    assert_eq!(bench.table(), TableId::Tab(Tab::Reasons));
    assert_eq!(bench.press("\x1b"), Effect::Show);
    assert_eq!((bench.table(), bench.state.selected()), (TableId::Vms, pid));
    bench.press("\x1b");
    assert_eq!(bench.table(), TableId::Vms);
}

#[test]
fn next_tab_skips_tabs_without_rows() {
    let mut bench = opened();
    let ports = TableId::Tab(Tab::Details(event::Event::Ioport));
    assert_eq!(bench.table(), ports);
    let mut seen = vec![];
    loop {
        bench.press("\t");
        if bench.table() == ports {
            break;
        }
        assert!(!bench.state.rows().is_empty());
        seen.push(bench.table());
    }
    assert!(seen.contains(&TableId::Tab(Tab::Vcpus)) && seen.len() >= 4, "{seen:?}");
    assert!(!seen.contains(&TableId::Tab(Tab::Details(event::Event::Hypercall))));
    bench.press("6");
    assert_eq!(bench.table(), TableId::Tab(Tab::Details(event::Event::Hypercall)));
    assert!(bench.state.rows().is_empty());
    bench.press("9\n");
    let tabs: Vec<Tab> = bench.state.tabs().map(|(tab, _)| tab).collect();
    assert!(!tabs.contains(&Tab::Vcpus), "a vCPU has no vCPUs");
    bench.press("\x1b");
    assert_eq!(bench.table(), TableId::Tab(Tab::Vcpus));
}

#[test]
fn cursor_moves_within_the_table() {
    let mut bench = opened();
    let rows = labels(&bench);
    assert!(rows.len() >= 4, "{rows:?}");
    assert_eq!(bench.selected(), Some(rows[0].clone()));
    bench.press("k");
    assert_eq!(bench.selected(), Some(rows[0].clone()));
    bench.press("jj");
    assert_eq!(bench.selected(), Some(rows[2].clone()));
    bench.press("G");
    assert_eq!(bench.selected(), rows.last().cloned());
    bench.press("j");
    assert_eq!(bench.selected(), rows.last().cloned());
    bench.press("g");
    assert_eq!(bench.selected(), Some(rows[0].clone()));
}

#[test]
fn cursor_stays_on_its_row_when_order_changes() {
    let mut bench = opened();
    bench.press("j");
    let selected = bench.selected().unwrap();
    for keys in ["s", "S", "s", "S", "%", "c"] {
        bench.press(keys);
        assert_eq!(bench.selected().as_ref(), Some(&selected), "after {keys}");
    }
    let mut next = snapshots(&[4]).remove(0);
    next.at_ns = 4 * RUN;
    for vcpu in &mut next.vcpus {
        // One row takes far longer now, which changes the order.
        vcpu.details[0].row.total_ns *= 1_000;
    }
    bench.read(next);
    assert_eq!(bench.selected(), Some(selected));
}

#[test]
fn selected_row_without_figures_stays_in_the_table() {
    let mut bench = opened();
    let selected = bench.selected().unwrap();
    let again = bench.snapshots.last().unwrap().clone();
    bench.read(again.clone());
    assert_eq!(labels(&bench), std::slice::from_ref(&selected));
    assert!(bench.screen().contains(&selected));
    bench.press("\x1b");
    bench.read(again);
    assert!(!labels(&bench).is_empty(), "VMs without exits stay");
}

#[test]
fn sort_cycles_columns_and_reverses() {
    let mut bench = opened();
    let at_first = labels(&bench);
    bench.press("S");
    let mut reversed = labels(&bench);
    reversed.reverse();
    assert_eq!(reversed, at_first);
    let columns = bench.state.columns(80).len();
    for _ in 0..columns {
        bench.press("s");
    }
    assert_eq!(labels(&bench), at_first, "after all columns");
}

#[test]
fn filter_is_typed_kept_and_removed() {
    let mut bench = opened();
    let all = labels(&bench).len();
    bench.press("/rTc");
    assert!(bench.state.filter().1);
    assert!(labels(&bench).len() < all && !labels(&bench).is_empty(), "matches the device's name");
    bench.press("q\x08\n");
    assert_eq!(bench.state.filter(), ("rTc", false));
    bench.press("/xyz\x1b");
    assert_eq!(bench.state.filter(), ("rTc", false), "as before");
    bench.press("\x1b");
    assert_eq!((bench.state.filter().0, labels(&bench).len()), ("", all));
    assert!(bench.state.open().is_some());
    bench.press("/nothing has this");
    assert_eq!(labels(&bench).len(), 0);
    assert!(bench.screen().contains("no row matches the filter"));
}

#[test]
fn pause_freezes_the_screen() {
    let mut bench = opened();
    assert_eq!(bench.press("p"), Effect::Show);
    let frozen = bench.screen();
    assert!(frozen.contains("PAUSED"));
    let mut next = snapshots(&[9]).remove(0);
    next.at_ns = 4 * RUN;
    bench.read(next);
    assert_eq!(bench.screen(), frozen);
    bench.press("p");
    assert!(!bench.state.is_paused());
    assert_ne!(bench.screen(), frozen);
}

#[test]
fn reset_starts_a_new_baseline() {
    let mut bench = opened();
    bench.press("c%");
    let samples = |bench: &Bench| {
        let stats = bench.state.selected_stats();
        stats.map_or(0, |stats| stats.samples)
    };
    let (since_start, first) = (samples(&bench), bench.selected());
    assert_eq!(bench.press("r"), Effect::Reset);
    assert_eq!((samples(&bench), bench.selected()), (0, first));
    let mut next = snapshots(&[4]).remove(0);
    next.at_ns = 4 * RUN;
    bench.read(next);
    // One reading since the reset; there were three before it.
    assert_eq!(samples(&bench) * 3, since_start);
}

#[test]
fn marked_rows_are_summed_per_table() {
    let mut bench = bench();
    assert_eq!(bench.state.marked(), None);
    bench.press("g  ");
    let both = bench.state.marked().unwrap();
    assert!(both.starts_with("2 marked: "), "{both}");
    bench.press("g ");
    assert!(bench.state.marked().unwrap().starts_with("1 marked: "));
    bench.press("\n");
    assert_eq!(bench.state.marked(), None, "marks of another table");
}

#[test]
fn interval_changes_in_steps_down_to_its_minimum() {
    let mut bench = bench();
    assert_eq!(bench.press("+"), Effect::Interval);
    assert_eq!(bench.state.interval().as_secs(), 2);
    assert_eq!(bench.press("--"), Effect::Interval);
    assert_eq!(bench.state.interval().as_millis(), 500);
    assert_eq!(bench.press("-----"), Effect::None);
    assert_eq!(bench.state.interval().as_millis(), 250);
}

#[test]
fn overlay_closes_on_any_key_but_scrolls() {
    let mut bench = bench();
    bench.press("?");
    assert!(bench.screen().contains("page down"));
    bench.press("jjk");
    assert!(bench.screen().contains("page down"), "scrolling keeps it open");
    bench.press("q");
    assert!(!bench.screen().contains("page down"));
    bench.press("?x");
    assert!(!bench.screen().contains("page down"), "a key without a binding");
    bench.press("f");
    assert!(bench.screen().contains("┌ Findings"));
    bench.press("\n");
    assert_eq!(bench.table(), TableId::Vms, "the key has no other effect");
    assert_eq!(bench.press("q"), Effect::Quit);
}

#[test]
fn save_is_an_effect_and_its_message_ends_on_next_key() {
    let mut bench = bench();
    assert_eq!(bench.press("w"), Effect::Save);
    bench.state.say("written to x.json".into());
    assert!(bench.screen().contains("written to x.json"));
    bench.press("j");
    assert!(!bench.screen().contains("written to"));
}

fn mouse(kind: MouseEventKind, column: u16, row: u16) -> Event {
    Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
}

/// Column and line of a text on the screen.
fn place(bench: &Bench, text: &str) -> (u16, u16) {
    let screen = bench.screen();
    let found = (0..).zip(screen.lines()).find_map(|(line, row)| {
        let row = row.trim_start_matches('"');
        Some((row[..row.find(text)?].chars().count() as u16, line))
    });
    found.unwrap_or_else(|| panic!("no {text} in:\n{screen}"))
}

#[test]
fn mouse_selects_opens_sorts_and_scrolls() {
    let mut bench = opened();
    let click = MouseEventKind::Down(MouseButton::Left);
    let third = labels(&bench)[2].clone();
    let (column, line) = place(&bench, &third);
    bench.handle(&mouse(click, column, line));
    assert_eq!(bench.selected(), Some(third));
    assert_eq!(bench.handle(&mouse(click, column, line)), Effect::Show);
    assert_eq!(bench.table(), TableId::RowVcpus);
    bench.handle(&mouse(MouseEventKind::Down(MouseButton::Right), 0, 0));

    let (column, line) = place(&bench, "Rate/s");
    bench.handle(&mouse(click, column, line));
    assert!(bench.screen().contains("Rate/s▼"));
    bench.handle(&mouse(click, column, line));
    assert!(bench.screen().contains("Rate/s▲"));

    let (column, line) = place(&bench, "5 CPUID");
    bench.handle(&mouse(click, column, line));
    assert_eq!(bench.table(), TableId::Tab(Tab::Details(event::Event::Cpuid)));
    let (column, line) = place(&bench, "2 Ports");
    bench.handle(&mouse(click, column, line));
    let rows = labels(&bench);
    bench.press("g");
    bench.handle(&mouse(MouseEventKind::ScrollDown, 5, 10));
    assert_eq!(bench.selected(), Some(rows[3.min(rows.len() - 1)].clone()));
    bench.handle(&mouse(click, 70, 23));
    assert_eq!(labels(&bench), rows, "no row at that place");
}

#[test]
fn cursor_stays_visible_in_long_table() {
    let mut guests = guests();
    let first = guests[0].clone();
    guests.extend((0..100).map(|n| vmexit_core::vm::Vm {
        pid: 50_000 + n,
        name: format!("vm-{n:03}"),
        ..first.clone()
    }));
    let mut bench = Bench::of(guests, snapshots(&[1, 2]), (80, 24));
    bench.press("G");
    let last = bench.selected().unwrap();
    assert!(bench.screen().contains(&last));
    bench.press("g");
    assert!(!bench.screen().contains(&last));
    for _ in 0..40 {
        bench.press("j");
        let selected = bench.selected().unwrap();
        assert!(bench.screen().lines().any(|line| line.contains('▸') && line.contains(&selected)));
    }
}
