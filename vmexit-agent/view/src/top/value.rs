//! Value of a cell: its text and its sort order.

use std::cmp::Ordering;

use vmexit_core::units::{count, duration, rate};

use crate::table::NONE;

/// Value of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CellValue<'a> {
    /// A label or name.
    Text(String),
    /// A process or thread ID.
    Id(u32),
    /// A number of exits or vCPUs.
    Count(u64),
    /// A rate per second.
    PerSecond(f64),
    /// A share, percent.
    Percent(f64),
    /// A duration, nanoseconds.
    Time(u64),
    /// A share, percent, and the name of the part.
    Share(f64, String),
    /// Rates per second, oldest first.
    Trend(&'a [f64]),
    /// An unknown or meaningless value.
    Nothing,
}

impl CellValue<'_> {
    /// Text of the value. A trend fills `columns`; all other values have their natural width.
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

    /// Order of two values of one column. Missing values come last in both directions.
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

    /// Numeric sort key; `None` for text and missing values.
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

/// Bars of one to eight eighths of a line.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Sparkline of the latest rates, newest at the right, relative to the highest displayed one.
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
    fn cell_text_has_units() {
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
    fn cell_order_puts_missing_values_last_in_both_directions() {
        let (small, large) = (CellValue::Count(1), CellValue::Count(2));
        assert_eq!(small.compare(&large, false), Ordering::Less);
        assert_eq!(small.compare(&large, true), Ordering::Greater);
        for descending in [false, true] {
            assert_eq!(small.compare(&CellValue::Nothing, descending), Ordering::Less);
            assert_eq!(CellValue::Nothing.compare(&small, descending), Ordering::Greater);
        }
    }
}
