//! Charts as inline SVG: how rows share a VM's exits and time, and how long the exits of each took. Colours
//! come from the page's style sheet; every figure is in a table too.

use maud::{Markup, html};
use vmexit_core::{
    escape::cut,
    report::{Bucket, Stats},
    units,
};

/// Columns of a name.
const NAME: usize = 38;

/// Widths and heights in the charts' own units, which are pixels where there is room.
pub(super) const WIDTH: f64 = 960.0;
const LABELS: f64 = 280.0;
const LINE: f64 = 22.0;
const AXIS: f64 = 24.0;
/// Room for a bar's figures behind it.
const FIGURES: f64 = 70.0;
/// Room for half of an axis's last figure.
const MARGIN: f64 = 24.0;

/// A row of a chart: what it is of, and its figures.
pub(super) struct ChartRow<'a> {
    pub label: String,
    pub stats: &'a Stats,
}

/// Two bars a row: its share of the exits, and of the handled time where that is known.
pub(super) fn shares(rows: &[ChartRow<'_>], what: &str) -> Markup {
    let height = rows.len() as f64 * LINE;
    let scale = (WIDTH - LABELS - FIGURES) / 100.0;
    html! {
        svg viewBox=(view_box(height)) role="img" aria-label=(what) {
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

/// The durations that a chart spans, nanoseconds: the same for all charts of a VM, so that they compare.
#[derive(Clone, Copy)]
pub(super) struct Range {
    from: u64,
    to: u64,
}

impl Range {
    /// That of all these rows; `None` where none was timed.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a Stats> + Clone) -> Option<Self> {
        let buckets = rows.flat_map(|stats| &stats.histogram);
        let from = buckets.clone().map(|bucket| bucket.from_ns.max(SHORTEST)).min()?;
        Some(Self { from, to: buckets.map(end).max()? })
    }

    /// Where a duration is, as a share of the width: logarithmic.
    fn place(self, ns: u64) -> f64 {
        let octaves = |ns: u64| (ns as f64 / self.from as f64).log2();
        octaves(ns.max(self.from)) / octaves(self.to)
    }
}

/// How long the exits of each row took: a column for each bucket, darker where there are more. Counts
/// are on a logarithmic scale, for a row's slow exits are few and matter.
pub(super) fn heat(rows: &[ChartRow<'_>], range: Range, what: &str) -> Markup {
    let counts = rows.iter().flat_map(|row| &row.stats.histogram).map(|bucket| bucket.count);
    let most = counts.max().unwrap_or(1);
    let x = |ns: u64| LABELS + (WIDTH - LABELS - MARGIN) * range.place(ns);
    let height = rows.len() as f64 * LINE;
    html! {
        svg viewBox=(view_box(height + AXIS)) role="img" aria-label=(what) {
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

/// Durations below share a bucket that begins at 0, which a logarithmic scale has no place for.
const SHORTEST: u64 = 32;

/// The last bucket has no end: it is drawn as wide as the others.
fn end(bucket: &Bucket) -> u64 {
    bucket.to_ns.unwrap_or(bucket.from_ns + bucket.from_ns / 4)
}

fn exits(bucket: &Bucket) -> String {
    let from = units::duration(bucket.from_ns);
    let range = bucket.to_ns.map_or_else(
        || format!("{from} and longer"),
        |to| format!("{from} to {}", units::duration(to)),
    );
    format!("{} of {range}", units::plural(bucket.count, "exit"))
}

/// From a little, which one exit has, to 1.
fn shade(count: u64, most: u64) -> f64 {
    let logarithm = |count: u64| (count as f64 + 1.0).ln();
    0.12 + 0.88 * logarithm(count) / logarithm(most)
}

/// Powers of ten within the range.
fn ticks(range: Range) -> impl Iterator<Item = (u64, String)> {
    const UNITS: [&str; 4] = ["ns", "µs", "ms", "s"];
    let ticks = (0..12).map(|power| (10_u64.pow(power), power as usize));
    ticks
        .filter(move |(ns, _)| (range.from..=range.to).contains(ns))
        .map(|(ns, power)| (ns, format!("{} {}", 10_u64.pow(power as u32 % 3), UNITS[power / 3])))
}

fn name(label: &str, y: f64) -> Markup {
    html! { text x=(LABELS - 8.0) y=(y + 15.0) text-anchor="end" { (cut(label, NAME)) } }
}

fn view_box(height: f64) -> String {
    format!("0 0 {WIDTH} {height}")
}

/// A tenth is more than a screen shows.
pub(super) fn pixels(value: f64) -> String {
    format!("{value:.1}")
}
