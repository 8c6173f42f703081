//! Renderings of a [`Report`]. Nothing here measures, names or decides.

mod terminal;
mod text;
pub mod units;

use bytes::Bytes;

pub use self::terminal::{escaped, safe};

use crate::model::Report;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Tables for people.
    #[default]
    Text,
    /// The report as it is, one JSON document.
    Json,
}

/// Writes the report in `format`, with a line feed at the end.
pub fn render(report: &Report, format: Format) -> Result<Bytes, serde_json::Error> {
    match format {
        Format::Text => Ok(text::render(report).into()),
        Format::Json => json(report),
    }
}

/// One JSON document, with a line feed at the end.
pub fn json(value: &impl serde::Serialize) -> Result<Bytes, serde_json::Error> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(json.into())
}
