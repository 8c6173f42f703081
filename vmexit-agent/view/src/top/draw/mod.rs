//! Drawing of a frame from the state.

mod distribution;
pub(super) mod heading;
mod overlay;
mod table;

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};
use vmexit_core::{
    escape::{cut, safe},
    units::{self, plural},
};

use super::{
    areas::areas,
    state::{State, TableId, rate},
    theme::{Role, Theme},
};

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, state: &State, theme: &Theme) {
    let areas = areas(state, frame.area());
    title(frame, areas.title, state, theme);
    let banners: Vec<Line<'_>> = state
        .banners()
        .into_iter()
        .map(|banner| {
            let text = cut(&format!("! {banner}"), areas.banners.width.into());
            Line::styled(text, theme.of(Role::Warning))
        })
        .collect();
    frame.render_widget(Paragraph::new(banners), areas.banners);
    heading::draw(frame, areas.heading, areas.tabs, state, theme);
    table::draw(frame, areas.table, state, theme);
    match state.table() {
        TableId::RowVcpus => {
            distribution::draw(frame, areas.distribution, state.open_row(), theme);
            heading::trend(frame, areas.trend, state, theme);
        }
        TableId::Tab(_) | TableId::Vms => {
            distribution::draw(frame, areas.distribution, state.selected_stats(), theme);
        }
    }
    if let Some(vm) = state.vm_with_findings()
        && let [first, rest @ ..] = vm.assessment.findings.as_slice()
    {
        let (title, name) = (first.title, safe(&vm.name));
        let more =
            if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let text = format!("! {name}: {title}{more} (f: what to do)");
        let text = cut(&text, areas.findings.width.into());
        line(frame, areas.findings, Line::styled(text, theme.of(Role::Warning)));
    }
    status(frame, areas.status, state, theme);
    if let Some((overlay, offset)) = state.overlay() {
        overlay::draw(frame, overlay, offset, state, theme);
    }
}

/// Draws a line at the top of an area.
fn line(frame: &mut Frame<'_>, area: Rect, line: impl Into<Line<'static>>) {
    frame.render_widget(line.into(), area);
}

/// Draws the title: host and totals at the left, span and time at the right.
fn title(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let (report, show) = (state.report(), state.figures());
    let vcpus: usize = report.vms.iter().map(|vm| vm.vcpus.len()).sum();
    // Not `sum`, which is -0 for an empty iterator.
    let sum = report.vms.iter().fold(0.0, |sum, vm| sum + rate(&vm.total, show));
    let counted = if show.exits { "exits" } else { "events" };
    let mut left = vec![
        format!("vmexit {}", safe(&report.host.name)),
        plural(report.vms.len() as u64, "VM"),
        plural(vcpus as u64, "vCPU"),
        format!("{} {counted}/s", units::rate(sum)),
    ];
    if show.times {
        let percent = report.vms.iter().fold(0.0, |sum, vm| sum + vm.total.core_percent);
        left.push(format!("{:.2} cores", percent / 100.0));
    }
    let span = match report.span.seconds {
        seconds if seconds < 60.0 => format!("{seconds:.1} s"),
        seconds => humantime::format_duration(Duration::from_secs(seconds as u64)).to_string(),
    };
    let mut right = Vec::new();
    for (is_set, tag) in [(state.is_replay(), " REPLAY "), (state.is_paused(), " PAUSED ")] {
        if is_set {
            right.extend([Span::styled(tag, theme.of(Role::Tab)), Span::raw(" ")]);
        }
    }
    let span = if state.is_cumulative() { format!("all of {span}") } else { span };
    right.push(Span::styled(format!("{span}  {} UTC", state.time()), theme.of(Role::Title)));
    let right = Line::from(right).alignment(Alignment::Right);
    let room = usize::from(area.width).saturating_sub(right.width() + 2);
    let left = cut(&left.join("  "), room.max(1));
    line(frame, area, right);
    let area = Rect { width: area.width.min(room as u16), ..area };
    line(frame, area, Line::styled(left, theme.of(Role::Title)));
}

/// Draws the status line: the filter being typed, or a message, or else the filter, the marked rows and hints.
fn status(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let (filter, typing) = state.filter();
    let width = usize::from(area.width);
    if typing {
        let text = cut(&format!("/{filter}"), width.saturating_sub(1).max(1));
        let cursor = Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED));
        return line(frame, area, vec![Span::raw(text), cursor]);
    }
    if let Some(message) = state.message() {
        return line(frame, area, Line::styled(cut(message, width), theme.of(Role::Title)));
    }
    let mut spans = Vec::new();
    if !filter.is_empty() {
        spans.push(Span::styled(format!("/{}  ", cut(filter, 20)), theme.of(Role::Marked)));
    }
    if let Some(marked) = state.marked() {
        spans.push(Span::styled(format!("{marked}  "), theme.of(Role::Marked)));
    }
    let hints: &[(&str, &str)] = match state.table() {
        TableId::Vms => &[("Enter", "open"), ("/", "filter"), ("s", "sort")],
        TableId::Tab(_) => {
            &[("Enter", "open"), ("Esc", "back"), ("Tab", "next table"), ("s", "sort")]
        }
        TableId::RowVcpus => &[("Esc", "back"), ("s", "sort")],
    };
    let common = [("c", "since baseline"), ("p", "pause"), ("?", "help"), ("q", "quit")];
    for (key, hint) in hints.iter().chain(&common) {
        spans.push(Span::styled((*key).to_owned(), theme.of(Role::Key)));
        spans.push(Span::raw(format!(" {hint}  ")));
    }
    line(frame, area, spans);
}
