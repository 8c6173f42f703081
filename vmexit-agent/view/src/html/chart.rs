//! Charts as inline SVG: shares of the rows in a VM's exits and time, and distributions of their durations. Colours come
//! from the page's style sheet. All figures are also in a table.

use maud::{Markup, html};
use vmexit_core::{
    escape::cut,
    report::{Bucket, Stats},
    units,
};

/// Maximum width of a label, characters.
const LABEL_CHARACTERS: usize = 38;

/// Width of a chart, SVG units. A unit is one pixel unless the window is narrower than the chart.
pub(super) const WIDTH: f64 = 960.0;
/// Width of the labels, SVG units.
const LABELS: f64 = 280.0;
/// Height of a row, SVG units.
const LINE: f64 = 22.0;
/// Height of an axis, SVG units.
const AXIS: f64 = 24.0;
/// Width of the figure to the right of a bar, SVG units.
const FIGURES: f64 = 70.0;
/// Space for half of an axis's last label, SVG units.
const MARGIN: f64 = 24.0;

/// A row of a chart.
pub(super) struct ChartRow<'a> {
    /// Text to the left of the row.
    pub label: String,
    /// Figures to draw.
    pub stats: &'a Stats,
}

/// A bar chart with two bars per row: its share of the exits, and of the handled time if that is known. `title` is its
/// label for screen readers.
pub(super) fn shares(rows: &[ChartRow<'_>], title: &str) -> Markup {
    let height = rows.len() as f64 * LINE;
    let scale = (WIDTH - LABELS - FIGURES) / 100.0;
    html! {
        svg viewBox=(view_box(height)) role="img" aria-label=(title) {
            @for (at, ChartRow { label, stats }) in rows.iter().enumerate() {
                @let y = at as f64 * LINE;
                @let longest = stats.samples_percent.max(stats.time_percent.unwrap_or(0.0));
                (name(label, y))
                rect.exits x=(LABELS) y=(y + 3.0) height="7" width=(pixels(stats.samples_percent * scale)) {
                    title { (units::percent(stats.samples_percent)) " of exits" }
                }
                @if let Some(percent) = stats.time_percent {
                    rect.time x=(LABELS) y=(y + 11.0) height="7" width=(pixels(percent * scale)) {
                        title { (units::percent(percent)) " of handled time" }
                    }
                }
                text.figure x=(pixels(LABELS + longest * scale + 6.0)) y=(y + 15.0) {
                    (units::percent(stats.time_percent.unwrap_or(stats.samples_percent)))
                }
            }
        }
    }
}

/// Range of durations on a chart's axis, nanoseconds. All charts of a VM have the same, so they can be compared.
#[derive(Clone, Copy)]
pub(super) struct Range {
    from: u64,
    to: u64,
}

impl Range {
    /// The range of the durations of these rows; `None` if no exit was timed.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a Stats> + Clone) -> Option<Self> {
        let buckets = rows.flat_map(|stats| &stats.histogram);
        let from = buckets.clone().map(|bucket| bucket.from_ns.max(SHORTEST)).min()?;
        Some(Self { from, to: buckets.map(end).max()? })
    }

    /// Position of a duration on a logarithmic axis from 0 to 1.
    fn place(self, ns: u64) -> f64 {
        let octaves = |ns: u64| (ns as f64 / self.from as f64).log2();
        octaves(ns.max(self.from)) / octaves(self.to)
    }
}

/// A heat map of durations with a cell per row and bucket; cells with more exits are darker. The scale is logarithmic, so
/// that few slow exits remain visible. `title` is its label for screen readers.
pub(super) fn heat(rows: &[ChartRow<'_>], range: Range, title: &str) -> Markup {
    let counts = rows.iter().flat_map(|row| &row.stats.histogram).map(|bucket| bucket.count);
    let most = counts.max().unwrap_or(1);
    let x = |ns: u64| LABELS + (WIDTH - LABELS - MARGIN) * range.place(ns);
    let height = rows.len() as f64 * LINE;
    html! {
        svg viewBox=(view_box(height + AXIS)) role="img" aria-label=(title) {
            @for (ns, label) in ticks(range) {
                line.grid x1=(pixels(x(ns))) x2=(pixels(x(ns))) y1="0" y2=(height) {}
                text.figure text-anchor="middle" x=(pixels(x(ns))) y=(height + 16.0) { (label) }
            }
            @for (at, ChartRow { label, stats }) in rows.iter().enumerate() {
                @let y = at as f64 * LINE;
                (name(label, y))
                @for bucket in &stats.histogram {
                    @let (left, right) = (x(bucket.from_ns), x(end(bucket)));
                    rect.heat x=(pixels(left)) width=(pixels(right - left)) y=(y + 2.0) height=(LINE - 4.0)
                        fill-opacity=(format!("{:.2}", shade(bucket.count, most))) {
                        title { (label) ": " (exits(bucket)) }
                    }
                }
            }
        }
    }
}

/// Start of the axis if the first bucket starts at 0, which has no place on a logarithmic axis; nanoseconds.
const SHORTEST: u64 = 32;

/// End of a bucket, nanoseconds. The last one has none, and is drawn as wide as the others.
fn end(bucket: &Bucket) -> u64 {
    bucket.to_ns.unwrap_or(bucket.from_ns + bucket.from_ns / 4)
}

/// Number of exits and range of a bucket: `12 exits of 1.02 µs to 1.28 µs`.
fn exits(bucket: &Bucket) -> String {
    let from = units::duration(bucket.from_ns);
    let range = bucket.to_ns.map_or_else(
        || format!("{from} and longer"),
        |to| format!("{from} to {}", units::duration(to)),
    );
    format!("{} of {range}", units::plural(bucket.count, "exit"))
}

/// Opacity of a cell, up to 1; a single exit is still visible.
fn shade(count: u64, most: u64) -> f64 {
    let logarithm = |count: u64| (count as f64 + 1.0).ln();
    0.12 + 0.88 * logarithm(count) / logarithm(most)
}

/// Labels of the axis: the powers of ten within the range.
fn ticks(range: Range) -> impl Iterator<Item = (u64, String)> {
    const UNITS: [&str; 4] = ["ns", "µs", "ms", "s"];
    let ticks = (0..12).map(|power| (10_u64.pow(power), power as usize));
    ticks
        .filter(move |(ns, _)| (range.from..=range.to).contains(ns))
        .map(|(ns, power)| (ns, format!("{} {}", 10_u64.pow(power as u32 % 3), UNITS[power / 3])))
}

fn name(label: &str, y: f64) -> Markup {
    html! { text x=(LABELS - 8.0) y=(y + 15.0) text-anchor="end" { (cut(label, LABEL_CHARACTERS)) } }
}

fn view_box(height: f64) -> String {
    format!("0 0 {WIDTH} {height}")
}

/// A coordinate; tenths of a pixel are precise enough.
pub(super) fn pixels(value: f64) -> String {
    format!("{value:.1}")
}
