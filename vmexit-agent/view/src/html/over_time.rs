//! Chart of a VM's rate over time as inline SVG, with a stacked column for each step.

use std::{cmp::Reverse, collections::BTreeMap};

use maud::{Markup, html};
use vmexit_core::{
    escape::safe,
    report::SeriesStep,
    units::{plural, rate},
};

use super::chart::{WIDTH, pixels};

/// Number of names with their own colour; all others share one.
const COLOURS: usize = 5;
/// Name of the others.
const OTHERS: &str = "others";
/// Minimum number of steps of a chart.
const FEWEST: usize = 3;

/// Height of the columns, SVG units.
const HEIGHT: f64 = 160.0;
/// Height of the axis below them, SVG units.
const AXIS: f64 = 24.0;
/// Width of the rates to the left of the columns, SVG units.
const RATES: f64 = 70.0;

/// The chart with its legend; `None` if there are too few steps or no exits. Without `exits`, it shows events.
pub(super) fn figure(series: &[SeriesStep], exits: bool) -> Option<Markup> {
    let names = names(series);
    let most = series.iter().map(|step| per_second(step, total(step))).fold(0.0, f64::max);
    let seconds: f64 = series.iter().map(SeriesStep::length).sum();
    if series.len() < FEWEST || most <= 0.0 || seconds <= 0.0 {
        return None;
    }
    let counted = if exits { "exits" } else { "events" };
    let mut from = 0.0;
    let columns = series.iter().map(|step| {
        from += step.length();
        (from - step.length(), step)
    });
    let x = |at: f64| RATES + (WIDTH - RATES) * at / seconds;
    let y = |rate: f64| HEIGHT * (1.0 - rate / most);
    Some(html! {
        figure {
            svg viewBox=(format!("0 -12 {WIDTH} {}", HEIGHT + AXIS + 12.0)) role="img"
                aria-label={ (counted) " per second over the time, by kind" } {
                @for share in [0.0, 0.5, 1.0] {
                    line.grid x1=(RATES) x2=(WIDTH) y1=(pixels(y(most * share))) y2=(pixels(y(most * share))) {}
                    text.figure text-anchor="end" x=(RATES - 8.0) y=(pixels(y(most * share) + 4.0)) {
                        (rate(most * share))
                    }
                }
                @for (start, step) in columns.collect::<Vec<_>>() {
                    @let width = x(start + step.length()) - x(start);
                    @for (colour, below, samples, name) in stacked(step, &names) {
                        @let (top, bottom) = (y(per_second(step, below + samples)), y(per_second(step, below)));
                        rect class={ "c" (colour) } x=(pixels(x(start))) width=(pixels((width - 1.0).max(0.5)))
                            y=(pixels(top)) height=(pixels(bottom - top)) {
                            title {
                                (format!("{start:.1} s")) ", " (safe(name)) ": "
                                (plural(samples, if exits { "exit" } else { "event" })) ", "
                                (rate(per_second(step, samples))) "/s"
                            }
                        }
                    }
                }
                text.figure x=(RATES) y=(HEIGHT + 16.0) { "0 s" }
                text.figure text-anchor="end" x=(WIDTH) y=(HEIGHT + 16.0) { (format!("{seconds:.0} s")) }
            }
            figcaption {
                (counted) " per second:"
                @for (colour, name) in names.iter().enumerate() {
                    span class={ "key c" (colour) } {} (safe(name))
                }
            }
        }
    })
}

/// Names in order of their colours, most frequent first; the last is [`OTHERS`] if there are more names than colours.
fn names(series: &[SeriesStep]) -> Vec<&str> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for part in series.iter().flat_map(|step| &step.parts) {
        *sums.entry(&part.name).or_default() += part.samples;
    }
    let mut names: Vec<(&str, u64)> = sums.into_iter().collect();
    names.sort_by_key(|&(name, samples)| (Reverse(samples), name));
    let more = names.len() > COLOURS;
    names.truncate(COLOURS);
    names.into_iter().map(|(name, _)| name).chain(more.then_some(OTHERS)).collect()
}

/// Parts of a column from bottom to top: colour, number of exits below the part, number of exits, and name.
fn stacked<'a>(step: &SeriesStep, names: &[&'a str]) -> Vec<(usize, u64, u64, &'a str)> {
    let mut below = 0;
    let mut parts = Vec::new();
    for (colour, &name) in names.iter().enumerate() {
        let has_colour = |part: &str| {
            if colour == COLOURS { !names[..COLOURS].contains(&part) } else { part == name }
        };
        let coloured = step.parts.iter().filter(|part| has_colour(&part.name));
        let samples: u64 = coloured.map(|part| part.samples).sum();
        if samples > 0 {
            parts.push((colour, below, samples, name));
        }
        below += samples;
    }
    parts
}

/// Number of exits in a step.
fn total(step: &SeriesStep) -> u64 {
    step.parts.iter().map(|part| part.samples).sum()
}

fn per_second(step: &SeriesStep, samples: u64) -> f64 {
    if step.seconds > 0.0 { samples as f64 / step.seconds } else { 0.0 }
}
