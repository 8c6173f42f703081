//! A report's tables as they are read: titles and cells, the same in text and on a page.

use vmexit_core::{
    escape::safe,
    event::Event,
    report::{ExitReporting, Report, Stats, Tables},
    timing::Timing,
    units::{count, duration, percent, rate},
};

use super::subject::{label, what};

/// What a cell shows where there is nothing to show.
pub(super) const NONE: &str = "-";

/// What a report has figures of.
#[derive(Clone, Copy)]
pub(super) struct Shows {
    pub exits: bool,
    pub times: bool,
    pub userspace: bool,
}

impl Shows {
    pub(super) fn of(report: &Report) -> Self {
        let exits = report.source == ExitReporting::Exits;
        let times = exits && report.timing != Timing::Off;
        Self { exits, times, userspace: times && report.events.contains(&Event::Userspace) }
    }
}

/// One table.
pub(super) struct TextTable<'a> {
    pub event: Event,
    pub titles: Vec<&'static str>,
    /// The first so many columns say what a row is of; numbers come after them.
    pub names: usize,
    pub rows: Vec<TextRow<'a>>,
    /// Rows that were left out.
    pub hidden: usize,
}

/// One row of it, safe to show.
pub(super) struct TextRow<'a> {
    pub cells: Vec<String>,
    pub stats: &'a Stats,
}

/// A table's first columns: what a row is of, and what that is called.
pub(super) fn titles(event: Event) -> &'static [&'static str] {
    match event {
        Event::Vmexit => &["VM-EXIT"],
        Event::Ioport => &["IO-PORT", "Device"],
        Event::Mmio => &["MMIO", "Device"],
        Event::Msr => &["MSR", "Name"],
        Event::Cpuid => &["CPUID", "Name"],
        Event::Hypercall => &["HYPERCALL", "Name"],
        Event::Fault => &["PAGE-FAULT"],
        Event::Userspace => &["USERSPACE"],
        Event::Halt => &["HALT"],
    }
}

/// Columns that not every table has.
#[derive(Clone, Copy)]
struct Columns {
    /// Shares, extremes and percentiles of the time.
    times: bool,
    /// The share of it that was userspace's.
    userspace: bool,
    /// Time that is no cost.
    waiting: bool,
}

/// The tables that have rows: exit reasons, then what exits were for.
pub(super) fn text_tables(tables: &Tables, shows: Shows) -> Vec<TextTable<'_>> {
    let columns = Columns { times: shows.times, userspace: shows.userspace, waiting: false };
    let hidden = |event| tables.hidden.get(&event).copied().unwrap_or(0);
    let reasons =
        tables.exits.iter().map(|exit| (vec![exit.reason.clone()], &exit.stats, exit.waits));
    let reasons = sheet(
        Event::Vmexit,
        Columns { waiting: shows.times, ..columns },
        reasons,
        hidden(Event::Vmexit),
    );
    let details = tables.details.iter().map(|(&event, rows)| {
        // What was only ever a step of other exits has no figures.
        let rows = rows.iter().filter(|row| row.stats.samples > 0).map(|row| {
            let names = [label(&row.subject), what(&row.subject)];
            (names.into_iter().take(titles(event).len()).collect(), &row.stats, false)
        });
        sheet(event, columns, rows, hidden(event))
    });
    std::iter::once(reasons).chain(details).filter(|sheet| !sheet.rows.is_empty()).collect()
}

/// Names and counts, then the figures asked for.
fn sheet<'a>(
    event: Event,
    columns: Columns,
    rows: impl Iterator<Item = (Vec<String>, &'a Stats, bool)>,
    hidden: usize,
) -> TextTable<'a> {
    let names = titles(event);
    let mut titles = names.to_vec();
    titles.extend(["Samples", "Samples%", "Rate/s"]);
    if columns.times {
        titles.extend(["Time%", "Min", "p50", "Avg", "±", "p99", "Max"]);
    }
    titles.extend(columns.userspace.then_some("User%"));
    titles.extend(columns.waiting.then_some("Waiting"));
    let rows = rows.map(|(names, stats, waits)| {
        let mut cells: Vec<String> = names.iter().map(|name| safe(name)).collect();
        cells.extend(figures(stats, waits, columns));
        TextRow { cells, stats }
    });
    TextTable { event, titles, names: names.len(), rows: rows.collect(), hidden }
}

fn figures(stats: &Stats, waits: bool, columns: Columns) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.into());
    let time = |ns: Option<u64>| or_none(ns.map(duration));
    let mut cells =
        vec![count(stats.samples), percent(stats.samples_percent), rate(stats.per_second)];
    if columns.times {
        cells.extend([
            or_none(stats.time_percent.map(percent)),
            time(stats.min_ns),
            time(stats.p50_ns),
            time(stats.avg_ns),
            or_none(stats.avg_error_percent.map(percent)),
            time(stats.p99_ns),
            time(stats.max_ns),
        ]);
    }
    if columns.userspace {
        let user = stats.userspace_ns.filter(|_| !waits);
        cells.push(or_none(user.map(|ns| format!("{:.0}%", share(ns, stats.total_ns)))));
    }
    if columns.waiting {
        cells.push(time(waits.then_some(stats.total_ns)));
    }
    cells
}

/// A part of a whole, percent.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
