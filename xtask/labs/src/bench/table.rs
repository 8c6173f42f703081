//! Rendering of the tables: a heading, names aligned left, figures aligned right.

use comfy_table::{Cell, CellAlignment, Table, presets};

/// Returns a table under its heading; the first `names` columns have names, the others figures.
pub(super) fn render(
    heading: &str,
    columns: &[&str],
    names: usize,
    rows: &[Vec<String>],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns);
    for row in rows {
        table.add_row(row.iter().map(Cell::new));
    }
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = table.lines().map(|line| format!(" {}", line.trim_end())).collect();
    format!("{heading}\n\n{}\n", lines.join("\n"))
}

/// Formats a whole number, with commas between thousands.
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{shown}") } else { shown }
}

/// Formats a share of 1 as a percentage with this number of decimals.
pub(super) fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$} %", 100.0 * share)
}

/// Formats a ratio with two decimals.
pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.2} x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_aligns_figures_right() {
        let rows = [["a".into(), "5".into()], ["long name".into(), "1,234".into()]].map(Vec::from);
        let table = render("Heading", &["method", "ns"], 1, &rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[..2], ["Heading", ""]);
        let ends: Vec<usize> = lines[2..].iter().map(|line| line.len()).collect();
        assert_eq!(ends, [ends[0]; 3], "{table}");
        assert!(lines[3].trim_start().starts_with("a ") && lines[4].ends_with(" 1,234"));
    }

    #[test]
    fn whole_percent_and_times_format_numbers() {
        assert_eq!(
            [0.4, 999.6, 48_324.2, -1_234.0, -0.2].map(whole),
            ["0", "1,000", "48,324", "-1,234", "0"]
        );
        assert_eq!(percent(0.1876, 1), "18.8 %");
        assert_eq!(times(2.1875), "2.19 x");
    }
}
