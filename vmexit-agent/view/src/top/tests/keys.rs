//! Keys and the mouse, one at a time.

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

fn opened() -> Bench {
    let mut bench = bench();
    bench.press("\n2");
    bench
}

fn whats(bench: &Bench) -> Vec<String> {
    bench.state.rows().iter().map(|row| row.label.clone()).collect()
}

#[test]
fn a_vm_is_opened_with_its_durations_and_closed_again() {
    let mut bench = bench();
    assert_eq!(bench.table(), TableId::Vms);
    let pid = bench.state.selected();
    assert_eq!(bench.press("\n"), Effect::Refresh);
    assert_eq!((bench.state.open(), bench.table()), (pid, TableId::Tab(Tab::Reasons)));
    assert_eq!(bench.press("\n"), Effect::Show);
    assert_eq!(bench.table(), TableId::RowVcpus);
    assert_eq!(bench.press("\n"), Effect::None, "there is nothing behind a vCPU of a row");
    bench.press("h");
    assert_eq!(bench.table(), TableId::Tab(Tab::Reasons));
    assert_eq!(bench.press("\x1b"), Effect::Show);
    assert_eq!((bench.table(), bench.state.selected()), (TableId::Vms, pid));
    bench.press("\x1b");
    assert_eq!(bench.table(), TableId::Vms);
}

#[test]
fn tabs_without_rows_are_passed_over() {
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
fn the_cursor_goes_up_and_down_and_no_further() {
    let mut bench = opened();
    let rows = whats(&bench);
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
fn the_cursor_stays_on_its_row_wherever_that_goes() {
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
        // It takes far longer now, or does not come at all.
        vcpu.details[0].row.total_ns *= 1_000;
    }
    bench.tick(next);
    assert_eq!(bench.selected(), Some(selected));
}

#[test]
fn a_row_without_figures_stays_while_it_is_selected() {
    let mut bench = opened();
    let selected = bench.selected().unwrap();
    let again = bench.snapshots.last().unwrap().clone();
    bench.tick(again.clone());
    assert_eq!(whats(&bench), std::slice::from_ref(&selected));
    assert!(bench.screen().contains(&selected));
    bench.press("\x1b");
    bench.tick(again);
    assert!(!whats(&bench).is_empty(), "VMs stay in any case");
}

#[test]
fn columns_are_sorted_by_in_both_directions() {
    let mut bench = opened();
    let at_first = whats(&bench);
    bench.press("S");
    let mut reversed = whats(&bench);
    reversed.reverse();
    assert_eq!(reversed, at_first);
    let columns = bench.state.columns(80).len();
    for _ in 0..columns {
        bench.press("s");
    }
    assert_eq!(whats(&bench), at_first, "once around");
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let mut bench = opened();
    let all = whats(&bench).len();
    bench.press("/rTc");
    assert!(bench.state.filter().1);
    assert!(whats(&bench).len() < all && !whats(&bench).is_empty(), "by the device's name");
    bench.press("q\x08\n");
    assert_eq!(bench.state.filter(), ("rTc", false));
    bench.press("/xyz\x1b");
    assert_eq!(bench.state.filter(), ("rTc", false), "as before");
    bench.press("\x1b");
    assert_eq!((bench.state.filter().0, whats(&bench).len()), ("", all));
    assert!(bench.state.open().is_some());
    bench.press("/nothing has this");
    assert_eq!(whats(&bench).len(), 0);
    assert!(bench.screen().contains("nothing has this in its name"));
}

#[test]
fn a_pause_freezes_what_is_shown() {
    let mut bench = opened();
    assert_eq!(bench.press("p"), Effect::Show);
    let frozen = bench.screen();
    assert!(frozen.contains("PAUSED"));
    let mut next = snapshots(&[9]).remove(0);
    next.at_ns = 4 * RUN;
    bench.tick(next);
    assert_eq!(bench.screen(), frozen);
    bench.press("p");
    assert!(!bench.state.is_paused());
    assert_ne!(bench.screen(), frozen);
}

#[test]
fn the_baseline_begins_anew() {
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
    bench.tick(next);
    // Three times as much had been in the three seconds before.
    assert_eq!(samples(&bench) * 3, since_start);
}

#[test]
fn marked_rows_are_summed_up() {
    let mut bench = bench();
    assert_eq!(bench.state.marked(), None);
    bench.press("g  ");
    let both = bench.state.marked().unwrap();
    assert!(both.starts_with("2 marked: "), "{both}");
    bench.press("g ");
    assert!(bench.state.marked().unwrap().starts_with("1 marked: "));
    bench.press("\n");
    assert_eq!(bench.state.marked(), None, "marks are a table's own");
}

#[test]
fn the_interval_has_steps_and_ends() {
    let mut bench = bench();
    assert_eq!(bench.press("+"), Effect::Interval);
    assert_eq!(bench.state.interval().as_secs(), 2);
    assert_eq!(bench.press("--"), Effect::Interval);
    assert_eq!(bench.state.interval().as_millis(), 500);
    assert_eq!(bench.press("-----"), Effect::None);
    assert_eq!(bench.state.interval().as_millis(), 250);
}

#[test]
fn what_lies_over_everything_goes_away_by_any_key() {
    let mut bench = bench();
    bench.press("?");
    assert!(bench.screen().contains("page down"));
    bench.press("jjk");
    assert!(bench.screen().contains("page down"), "that scrolls");
    bench.press("q");
    assert!(!bench.screen().contains("page down"));
    bench.press("?x");
    assert!(!bench.screen().contains("page down"), "also by one that does nothing else");
    bench.press("f");
    assert!(bench.screen().contains("┌ Findings"));
    bench.press("\n");
    assert_eq!(bench.table(), TableId::Vms, "and does nothing else");
    assert_eq!(bench.press("q"), Effect::Quit);
}

#[test]
fn a_report_is_written_where_somebody_asks_for_it() {
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

/// Where a text is on the screen.
fn place(bench: &Bench, text: &str) -> (u16, u16) {
    let screen = bench.screen();
    let found = (0..).zip(screen.lines()).find_map(|(line, row)| {
        let row = row.trim_start_matches('"');
        Some((row[..row.find(text)?].chars().count() as u16, line))
    });
    found.unwrap_or_else(|| panic!("no {text} in:\n{screen}"))
}

#[test]
fn the_mouse_selects_opens_sorts_and_scrolls() {
    let mut bench = opened();
    let click = MouseEventKind::Down(MouseButton::Left);
    let third = whats(&bench)[2].clone();
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
    let rows = whats(&bench);
    bench.press("g");
    bench.handle(&mouse(MouseEventKind::ScrollDown, 5, 10));
    assert_eq!(bench.selected(), Some(rows[3.min(rows.len() - 1)].clone()));
    bench.handle(&mouse(click, 70, 23));
    assert_eq!(whats(&bench), rows, "nothing is there");
}

#[test]
fn many_rows_scroll() {
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
