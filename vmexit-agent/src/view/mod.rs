//! Renderings of a [`Report`], as text, JSON or a live screen, of single exits, and of the VMs that were found. Nothing here measures, names or decides.

mod csv;
mod diff;
mod explain;
mod html;
mod sampling;
mod sheet;
mod slow;
mod subject;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
mod text;
pub mod top;
pub mod units;
mod vms;

use std::fmt::Write as _;

use bytes::Bytes;

pub use self::{
    diff::diff,
    explain::explain,
    html::page,
    slow::{slow, slow_header},
    subject::label as subject_label,
    terminal::{cut, escaped, path, safe},
    text::losses,
    vms::{hidden, vms},
};

use crate::model::Report;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// JSON, as docs/json.md describes it.
    Json,
    /// One table for spreadsheets, as docs/csv.md describes it.
    Csv,
    /// One page with charts, that needs nothing else.
    Html,
}

/// How anything else is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON, as docs/json.md describes it.
    Json,
}

/// Writes the report in `format`, with a line feed at the end.
pub fn render(report: &Report, format: ReportFormat) -> Result<Bytes, serde_json::Error> {
    match format {
        ReportFormat::Text => Ok(text::render(report).into()),
        ReportFormat::Json => json(report),
        ReportFormat::Csv => Ok(csv::render(report).into()),
        ReportFormat::Html => Ok((page(report) + "\n").into()),
    }
}

/// Writes the findings in `format`; as JSON they are part of the report.
///
/// # Errors
/// None that is known: all that is in a report can be written.
pub fn explained(report: &Report, format: Format) -> Result<Bytes, serde_json::Error> {
    match format {
        Format::Text => Ok(explain(report).into()),
        Format::Json => json(report),
    }
}

/// One JSON document, with a line feed at the end. It can be shown on a terminal: what could steer that
/// is escaped, and comes back when it is parsed.
pub fn json(value: &impl serde::Serialize) -> Result<Bytes, serde_json::Error> {
    Ok(json_on_a_terminal(&serde_json::to_string_pretty(value)?).into())
}

/// JSON with all escaped that could steer a terminal, and a line feed at the end.
fn json_on_a_terminal(json: &str) -> String {
    let mut shown = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // Line feeds are between the values here; in strings they have been escaped already.
        if c == '\n' || terminal::is_plain(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown.push('\n');
    shown
}
