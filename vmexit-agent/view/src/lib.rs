//! Renderings of vmexit's data: reports as text, JSON, CSV, HTML, metrics and the live view, single exits, comparisons,
//! and lists of VMs. This crate does not measure, name or assess anything.
//!
//! A recording is read from a file, becomes a report, and is rendered:
//!
//! ```
//! use std::{fs::File, io::BufReader};
//!
//! use vmexit_core::{finding, report::Scope, store::file};
//! use vmexit_view::{ReportFormat, TableOptions, render};
//!
//! let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recording/2-demo.vmexit");
//! let measurement = file::read(BufReader::new(File::open(path)?))?;
//! let report = finding::report(&measurement, Scope::default());
//!
//! let options = TableOptions { rows: Some(5), ..TableOptions::default() };
//! let text = String::from_utf8(render(report, &options, ReportFormat::Text)?.to_vec())?;
//! assert!(text.contains("finding: the guest's clock is the ACPI PM timer: 70.69% of exits"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod csv;
mod diff;
mod explain;
mod figure;
mod html;
pub mod metrics;
mod options;
mod sampling;
mod slow;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod top;
mod vms;

use std::fmt::Write as _;

use bytes::Bytes;
use vmexit_core::{choice::Choice, escape, report::Report};

pub use self::{
    diff::diff,
    explain::explain,
    figure::Figure,
    html::page,
    options::{By, TableOptions},
    slow::{slow, slow_header},
    subject::label as subject_label,
    text::losses,
    vms::{hidden, vms},
};

/// Format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// Tables for people.
    #[default]
    Text,
    /// JSON, see docs/json.md.
    Json,
    /// One table for spreadsheets, see docs/csv.md.
    Csv,
    /// One self-contained page with charts.
    Html,
}

#[rustfmt::skip]
impl Choice for ReportFormat {
    const CHOICES: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Text, "text", "Tables for people"),
        (Self::Json, "json", "JSON, see docs/json.md"),
        (Self::Csv,  "csv",  "One table for spreadsheets, see docs/csv.md"),
        (Self::Html, "html", "One self-contained page with charts"),
    ];
}

/// Format of the other outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON, see docs/json.md.
    Json,
}

#[rustfmt::skip]
impl Choice for Format {
    const CHOICES: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Text, "text", "Text for people"),
        (Self::Json, "json", "JSON, see docs/json.md"),
    ];
}

/// Renders a report in `format`, with its tables sorted and cut by `options`, and a line feed at the end.
///
/// # Errors
/// A value that JSON cannot express; none is expected.
pub fn render(
    mut report: Report,
    options: &TableOptions,
    format: ReportFormat,
) -> Result<Bytes, serde_json::Error> {
    options.arrange(&mut report);
    match format {
        ReportFormat::Text => Ok(text::render(&report).into()),
        ReportFormat::Json => json(&report),
        ReportFormat::Csv => Ok(csv::render(&report).into()),
        ReportFormat::Html => Ok((html::render(&report) + "\n").into()),
    }
}

/// Renders the findings of a report in `format`. The JSON is that of the whole report.
///
/// # Errors
/// A value that JSON cannot express; none is expected.
pub fn explained(mut report: Report, format: Format) -> Result<Bytes, serde_json::Error> {
    match format {
        Format::Text => Ok(explain(&report).into()),
        Format::Json => {
            TableOptions::default().arrange(&mut report);
            json(&report)
        }
    }
}

/// One JSON document, with a line feed at the end. Control and invisible characters are written as `\u` escapes, which
/// parsers decode, so the document is safe to display on a terminal.
///
/// # Errors
/// A value that JSON cannot express, such as a map whose keys are not strings.
pub fn json(value: &impl serde::Serialize) -> Result<Bytes, serde_json::Error> {
    Ok(terminal_json(&serde_json::to_string_pretty(value)?).into())
}

/// The JSON with control and invisible characters escaped, and a line feed at the end.
fn terminal_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // These line feeds separate values; those in strings are escaped already.
        if c == '\n' || escape::is_plain(c) {
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
