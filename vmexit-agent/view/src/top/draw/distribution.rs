//! Distribution of durations: percentiles, and a bar per bucket of the histogram.

use std::iter::repeat_n;

use ratatui::{Frame, layout::Rect, text::Line, widgets::Sparkline};
use vmexit_common::histogram::{bounds_of, bucket_of};
use vmexit_core::{
    escape::cut,
    report::{Bucket, Stats},
    units::duration,
};

use super::super::theme::{Role, Theme};

/// Maximum width of a bar, columns.
const WIDEST: u16 = 6;

/// Steps of a bar's height within one line (see [`Sparkline`]).
const EIGHTHS: u64 = 8;

/// Draws the distribution of a row; nothing if the area has less than three lines or ten columns.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, stats: Option<&Stats>, theme: &Theme) {
    if area.height < 3 || area.width < 10 {
        return;
    }
    let at = |line| Rect { y: area.y + line, height: 1, ..area };
    let buckets = stats.map_or(&[][..], |stats| &stats.histogram);
    let title = match stats {
        Some(stats) if !buckets.is_empty() => format!("Latency (log)  {}", percentiles(stats)),
        _ => "Latency".into(),
    };
    let title = cut(&title, area.width.into());
    super::line(frame, at(0), Line::styled(title, theme.of(Role::Header)));
    let Some((first, counts)) = bars(buckets, area.width.into()) else {
        let note = cut(note_without_bars(stats), area.width.into());
        return super::line(frame, at(1), Line::styled(note, theme.of(Role::Dim)));
    };
    let (per_bar, counts) = counts;
    let wide = (area.width / counts.len() as u16).clamp(1, WIDEST);
    let lines = area.height - 2;
    let highest = counts.iter().copied().max().unwrap_or(0);
    let eighths = u64::from(lines) * EIGHTHS;
    // Logarithmic, so that a single slow exit remains visible.
    let size = |count: u64| ((count + 1) as f64).ln();
    let height = |&count: &u64| (size(count) / size(highest) * eighths as f64).ceil() as u64;
    let data: Vec<u64> =
        counts.iter().map(height).flat_map(|bar| repeat_n(bar, wide.into())).collect();
    let bars = Rect { y: area.y + 1, height: lines, ..area };
    let sparkline = Sparkline::default().data(data).max(eighths);
    frame.render_widget(sparkline.style(theme.of(Role::Bars)), bars);
    let axis = axis(first, per_bar, counts.len(), wide.into(), area.width.into());
    super::line(frame, at(area.height - 1), Line::styled(axis, theme.of(Role::Dim)));
}

/// Percentiles as text.
fn percentiles(stats: &Stats) -> String {
    let shown = [
        ("p50", stats.p50_ns),
        ("p90", stats.p90_ns),
        ("p99", stats.p99_ns),
        ("p99.9", stats.p999_ns),
    ];
    let shown = shown.iter().filter_map(|(name, ns)| Some(format!("{name} {}", duration((*ns)?))));
    shown.collect::<Vec<_>>().join("  ")
}

/// Index of the first bucket, number of buckets per bar, and counts of at most `room` bars; `None` without buckets.
fn bars(buckets: &[Bucket], room: usize) -> Option<(usize, (usize, Vec<u64>))> {
    let (first, last) = (bucket_of(buckets.first()?.from_ns), bucket_of(buckets.last()?.from_ns));
    let per_bar = (last + 1 - first).div_ceil(room.max(1));
    let mut counts = vec![0; (last - first) / per_bar + 1];
    for bucket in buckets {
        counts[(bucket_of(bucket.from_ns) - first) / per_bar] += bucket.count;
    }
    Some((first, (per_bar, counts)))
}

/// Axis with the start of as many bars as fit.
fn axis(first: usize, per_bar: usize, bars: usize, wide: usize, room: usize) -> String {
    let mut axis = String::new();
    let mut columns = 0;
    for bar in 0..bars {
        let start = bar * wide;
        if let Some((from_ns, _)) = bounds_of(first + bar * per_bar)
            && start >= columns
        {
            let label = duration(from_ns);
            let end = start + label.chars().count();
            if end > room {
                break;
            }
            axis.extend(repeat_n(' ', start - axis.chars().count()));
            axis += &label;
            columns = end + 2;
        }
    }
    axis
}

/// Reason why there are no bars.
fn note_without_bars(stats: Option<&Stats>) -> &'static str {
    match stats {
        Some(stats) if stats.timed > 0 => "known from the next interval on",
        _ => "nothing in this interval",
    }
}
