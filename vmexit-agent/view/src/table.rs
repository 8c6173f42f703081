//! Tables of a report as titles and cells. Text and HTML show the same ones.

use comfy_table::{Cell, CellAlignment, Table, presets};
use vmexit_core::{
    escape::safe,
    event::Event,
    report::{Report, Stats, Tables},
    units::{count, duration, percent, rate},
};

use super::subject::{device_or_name, label};

/// Text of a cell without a value.
pub(super) const NONE: &str = "-";

/// Figures that a report has.
#[derive(Clone, Copy)]
pub(super) struct KnownFigures {
    /// Counts of exits; otherwise only other events were counted.
    pub exits: bool,
    /// Durations of exits.
    pub times: bool,
    /// The part of the durations spent in userspace.
    pub userspace: bool,
}

impl KnownFigures {
    pub(super) fn of(report: &Report) -> Self {
        let times = report.has_times();
        let userspace = times && report.events.contains(&Event::Userspace);
        Self { exits: report.has_exits(), times, userspace }
    }
}

/// Table of a text report: the rows of one event.
pub(super) struct TextTable<'a> {
    /// The event whose rows the table has.
    pub event: Event,
    /// Titles of all columns.
    pub titles: Vec<&'static str>,
    /// Number of leading columns that identify the row; the columns after them are figures.
    pub names: usize,
    /// Rows, in the order of the report.
    pub rows: Vec<TextRow<'a>>,
    /// Number of rows left out.
    pub hidden: usize,
}

/// One row of a table.
pub(super) struct TextRow<'a> {
    /// Escaped text of each column.
    pub cells: Vec<String>,
    /// Figures of the row.
    pub stats: &'a Stats,
}

/// Lines of a table as plain text: columns are padded to their widest cell, and lines have no trailing spaces. Cells of
/// the columns for which `is_number` holds are right-aligned.
pub(super) fn plain_lines(
    titles: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    is_number: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(titles);
    for cells in rows {
        table.add_row(cells.into_iter().map(Cell::new));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        if is_number(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // comfy-table pads each cell on both sides, also at the start of the line.
    let line = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
    table.lines().map(line).collect()
}

/// Titles of a table's leading columns: the row's label, and its device or name.
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
    /// Share, minimum, mean, percentiles and maximum of the time.
    times: bool,
    /// Share of the time spent in userspace.
    userspace: bool,
    /// Time of exits in which the vCPU waits.
    waiting: bool,
}

/// The tables that have rows: exit reasons first, then one table for each event.
pub(super) fn text_tables(tables: &Tables, known: KnownFigures) -> Vec<TextTable<'_>> {
    let columns = Columns { times: known.times, userspace: known.userspace, waiting: false };
    let hidden = |event| tables.hidden.get(&event).copied().unwrap_or(0);
    let reasons =
        tables.exits.iter().map(|exit| (vec![exit.reason.clone()], &exit.stats, exit.waits));
    let reasons = text_table(
        Event::Vmexit,
        Columns { waiting: known.times, ..columns },
        reasons,
        hidden(Event::Vmexit),
    );
    let details = tables.details.iter().map(|(&event, rows)| {
        // A row whose accesses were all parts of other exits has no figures.
        let rows = rows.iter().filter(|row| row.stats.samples > 0).map(|row| {
            let names = [label(&row.subject), device_or_name(&row.subject)];
            (names.into_iter().take(titles(event).len()).collect(), &row.stats, false)
        });
        text_table(event, columns, rows, hidden(event))
    });
    std::iter::once(reasons).chain(details).filter(|table| !table.rows.is_empty()).collect()
}

/// The table of rows given as names, figures and whether the vCPU waits.
fn text_table<'a>(
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

/// Cells of a row's figures.
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

/// Share of a part in a whole, percent; 0 of nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
