//! What stands in a cell: how it reads, and what rows are ordered by.

use std::cmp::Ordering;

use vmexit_core::units::{count, duration, rate};

use crate::table::NONE;

/// The value of one figure of one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CellValue<'a> {
    Text(String),
    /// Of a process or thread.
    Id(u32),
    Count(u64),
    PerSecond(f64),
    Percent(f64),
    /// Nanoseconds.
    Time(u64),
    /// Something and its share, percent.
    Share(f64, String),
    /// Rates per second, oldest first.
    Trend(&'a [f64]),
    /// Unknown, or without meaning here.
    Nothing,
}

impl CellValue<'_> {
    /// As people read it, in so many columns if it can have any number of them.
    pub(super) fn text(&self, columns: u16) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Id(id) => id.to_string(),
            Self::Count(number) => count(*number),
            Self::PerSecond(number) => rate(*number),
            Self::Percent(percent) => format!("{percent:.1}%"),
            Self::Time(ns) => duration(*ns),
            Self::Share(percent, name) => format!("{percent:>3.0}% {name}"),
            Self::Trend(rates) => trend(rates, columns.into()),
            Self::Nothing => NONE.into(),
        }
    }

    /// By text or number, as it is; what is not there comes last in both directions.
    pub(super) fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let directed = |order: Ordering| if descending { order.reverse() } else { order };
        match (self, other) {
            (Self::Text(one), Self::Text(two)) => directed(one.cmp(two)),
            _ => match (self.number(), other.number()) {
                (Some(one), Some(two)) => directed(one.total_cmp(&two)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            },
        }
    }

    /// What it is ordered by, if that is a number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Id(id) => Some((*id).into()),
            Self::Count(number) | Self::Time(number) => Some(*number as f64),
            Self::PerSecond(number) | Self::Percent(number) | Self::Share(number, _) => {
                Some(*number)
            }
            Self::Trend(rates) => rates.last().copied(),
            Self::Text(_) | Self::Nothing => None,
        }
    }
}

/// Eighths of a line, lowest first.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The latest rates, the newest at the right; the highest of those shown is a whole line high.
fn trend(rates: &[f64], columns: usize) -> String {
    let shown = &rates[rates.len().saturating_sub(columns)..];
    let highest = shown.iter().copied().fold(0.0, f64::max);
    let bar = |&rate: &f64| match rate {
        _ if rate <= 0.0 || highest <= 0.0 => ' ',
        _ => EIGHTHS[((rate / highest * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    let bars: String = shown.iter().map(bar).collect();
    format!("{bars:>columns$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_in_the_text() {
        let texts = [
            (CellValue::Count(1_234), "1,234"),
            (CellValue::PerSecond(0.25), "0.2"),
            (CellValue::Percent(52.24), "52.2%"),
            (CellValue::Time(30_700), "30.7 µs"),
            (CellValue::Share(9.4, "io".into()), "  9% io"),
            (CellValue::Trend(&[0.0, 1.0, 8.0, 4.0]), " ▁█▄"),
            (CellValue::Nothing, "-"),
        ];
        for (value, text) in texts {
            assert_eq!(value.text(4), text);
        }
        assert_eq!(CellValue::Trend(&[1.0, 2.0, 4.0]).text(2), "▄█");
    }

    #[test]
    fn what_is_not_there_comes_last() {
        let (small, large) = (CellValue::Count(1), CellValue::Count(2));
        assert_eq!(small.compare(&large, false), Ordering::Less);
        assert_eq!(small.compare(&large, true), Ordering::Greater);
        for descending in [false, true] {
            assert_eq!(small.compare(&CellValue::Nothing, descending), Ordering::Less);
            assert_eq!(CellValue::Nothing.compare(&small, descending), Ordering::Greater);
        }
    }
}
