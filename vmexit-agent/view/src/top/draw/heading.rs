//! Heading of an open screen: name, figures, and tabs.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::{Paragraph, Sparkline},
};
use vmexit_core::{
    escape::cut,
    report::{Stats, Total},
    units::{self, count, duration, percent, plural},
};

use super::super::{
    state::{Screen, State, Tab, rate},
    theme::{Role, Theme},
};
use crate::table::share;

/// Draws the heading into `area` and the tabs into `tabs_area`; nothing for the list of VMs.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    tabs_area: Rect,
    state: &State,
    theme: &Theme,
) {
    let width = usize::from(area.width);
    let mut title = state.names().join(" › ");
    let rest = match state.path().last() {
        None => return,
        Some(Screen::Vm(_)) => {
            let Some(vm) = state.vm() else { return };
            let vcpus = plural(vm.vcpus.len() as u64, "vCPU");
            title += &format!(" (pid {}, {vcpus})", vm.pid);
            vec![total(&vm.total, state)]
        }
        Some(Screen::Vcpu(tid)) => {
            title += &format!(" (thread {tid})");
            vec![state.vcpu().map_or_else(String::new, |vcpu| total(&vcpu.total, state))]
        }
        Some(Screen::Row { .. }) => row_lines(state),
    };
    let mut lines = vec![Line::styled(cut(&title, width), theme.of(Role::Title))];
    lines.extend(rest.into_iter().map(|text| Line::raw(cut(&text, width))));
    frame.render_widget(Paragraph::new(lines), area);
    if !tabs_area.is_empty() {
        super::line(frame, tabs_area, tabs(state, theme));
    }
}

/// Rate and times of a VM or vCPU.
fn total(total: &Total, state: &State) -> String {
    let show = state.figures();
    let counted = if show.exits { "exits" } else { "events" };
    let mut text = format!("{} {counted}/s", units::rate(rate(total, show)));
    if show.times {
        text += &format!("; handled {:.1}% of a core", total.core_percent);
        if let Some(userspace_ns) = total.userspace_ns {
            text += &format!(", {:.0}% in userspace", share(userspace_ns, total.handled_ns));
        }
        text += &format!("; waiting {}", duration(total.waiting_ns));
    }
    if let Some(halts) = total.halts.filter(|halts| halts.polled > 0) {
        let all = halts.polled + halts.blocked;
        text += &format!("; polled {} of {} halts", count(halts.polled), count(all));
    }
    text
}

/// Three lines with the figures of the open row.
fn row_lines(state: &State) -> Vec<String> {
    let mut lines = match state.open_row() {
        Some(stats) => figures(stats, state),
        None => vec!["nothing in this interval".into(), String::new()],
    };
    lines.push(state.since().unwrap_or_default());
    lines
}

/// Two lines with the figures of a row; the second is empty without times.
fn figures(stats: &Stats, state: &State) -> Vec<String> {
    let show = state.figures();
    let samples = plural(stats.samples, if show.exits { "exit" } else { "event" });
    let rate = units::rate(stats.per_second);
    let mut first = format!("{samples}, {}, {rate}/s", percent(stats.samples_percent));
    if !show.times {
        return vec![first, String::new()];
    }
    match stats.time_percent {
        Some(time) => {
            first += &format!(
                "; {} in all, {} of the VM's time",
                duration(stats.total_ns),
                percent(time)
            );
        }
        None => first += &format!("; {} of waiting", duration(stats.total_ns)),
    }
    if let Some(userspace_ns) = stats.userspace_ns.filter(|_| stats.time_percent.is_some()) {
        first += &format!(", {:.0}% of it in userspace", share(userspace_ns, stats.total_ns));
    }
    let times = [("min", stats.min_ns), ("avg", stats.avg_ns), ("max", stats.max_ns)];
    let times = times.iter().filter_map(|(name, ns)| Some(format!("{name} {}", duration((*ns)?))));
    let mut second: Vec<String> = times.collect();
    if let Some(error) = stats.avg_error_percent {
        second.push(format!("± {} of the average", percent(error)));
    }
    vec![first, second.join(", ")]
}

/// Draws the trend of the open row.
pub(super) fn trend(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    if area.height < 2 {
        return;
    }
    let rates = state.open_trend();
    let rates = &rates[rates.len().saturating_sub(area.width.into())..];
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let title = format!("Trend, up to {}/s", units::rate(highest));
    let title = cut(&title, area.width.into());
    super::line(frame, Rect { height: 1, ..area }, Line::styled(title, theme.of(Role::Header)));
    // Bars are integers, and rates may be below 1: thousandths.
    let bars: Vec<u64> = rates.iter().map(|rate| (rate * 1e3).round() as u64).collect();
    let area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    frame.render_widget(Sparkline::default().data(bars).style(theme.of(Role::Bars)), area);
}

fn tabs(state: &State, theme: &Theme) -> Line<'static> {
    let spans = (1..).zip(state.tabs()).map(|(number, (tab, title))| {
        let style = match tab {
            _ if tab == state.tab() => theme.of(Role::Tab),
            _ if state.has_rows(tab) => Style::new(),
            _ => theme.of(Role::Dim),
        };
        Span::styled(label(number, title), style)
    });
    spans.collect()
}

fn label(number: usize, title: &str) -> String {
    format!(" {number} {title}")
}

/// The tab at a column of the line of tabs.
pub(in super::super) fn tab_at(state: &State, column: u16) -> Option<Tab> {
    let mut end = 0;
    let mut tabs = (1..).zip(state.tabs());
    let at = tabs.find(|(number, (_, title))| {
        end += label(*number, title).len();
        usize::from(column) < end
    })?;
    Some(at.1.0)
}
