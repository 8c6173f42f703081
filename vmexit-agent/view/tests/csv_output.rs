//! CSV of recordings, compared with JSON and with docs/csv.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::{collections::BTreeMap, fs, iter};

use serde_json::Value;
use vmexit_core::{event::Event, store::file};
use vmexit_view::{By, ReportFormat, TableOptions};

use self::made_up::{rendered, sample_files};

/// All rows with the names of their tables, in the order of the events.
fn rows(tables: &Value) -> impl Iterator<Item = (String, &Value)> {
    let exits = ("vmexit".to_owned(), &tables["exits"]);
    let details = Event::ALL.map(|event| event.to_string());
    let details = details.into_iter().map(|event| (event.clone(), &tables["details"][event]));
    iter::once(exits).chain(details).flat_map(|(table, rows)| {
        rows.as_array().into_iter().flatten().map(move |row| (table.clone(), row))
    })
}

/// The text that CSV has for an integer or null of JSON.
fn cell(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

/// Whether a cell has the number of a JSON value. The last digit of a float may differ after parsing.
fn is_same(cell: &str, value: &Value) -> bool {
    match (cell.parse::<f64>(), value.as_f64()) {
        (Ok(cell), Some(value)) => (cell - value).abs() <= 1e-12 * value.abs(),
        (Err(_), None) => cell.is_empty() && value.is_null(),
        _ => false,
    }
}

#[test]
fn csv_has_the_rows_of_json() {
    const FIGURES: [&str; 16] = [
        "samples",
        "samples_percent",
        "per_second",
        "timed",
        "total_ns",
        "userspace_ns",
        "time_percent",
        "min_ns",
        "avg_ns",
        "max_ns",
        "stddev_ns",
        "avg_error_percent",
        "p50_ns",
        "p90_ns",
        "p99_ns",
        "p999_ns",
    ];
    for path in sample_files() {
        let recording = file::read(fs::read(path).unwrap().as_slice()).unwrap();
        let options = TableOptions { by: By::Vcpu, ..TableOptions::default() };
        let report: Value =
            serde_json::from_str(&rendered(&recording, options, ReportFormat::Json)).unwrap();
        let csv = rendered(&recording, options, ReportFormat::Csv);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let lines: Vec<BTreeMap<String, String>> =
            reader.deserialize().map(Result::unwrap).collect();
        let mut left = lines.iter();
        for vm in report["vms"].as_array().unwrap() {
            for tables in iter::once(vm).chain(vm["vcpus"].as_array().unwrap()) {
                for (table, row) in rows(tables) {
                    let line = left.next().unwrap();
                    assert_eq!((&line["table"], &line["tid"]), (&table, &cell(&tables["tid"])));
                    assert_eq!(line["number"], cell(row.get("code").unwrap_or(&row["number"])));
                    for figure in FIGURES {
                        assert!(is_same(&line[figure], &row[figure]), "{figure} of {row}");
                    }
                }
            }
        }
        assert!(!lines.is_empty() && left.next().is_none());
    }
}

#[test]
fn csv_columns_are_documented() {
    let docs = include_str!("../../../docs/csv.md");
    let csv = rendered(&made_up::windows(), TableOptions::default(), ReportFormat::Csv);
    let columns = csv.lines().next().unwrap().split(',');
    for column in columns {
        assert!(docs.contains(&format!("`{column}`")), "{column} is not in docs/csv.md");
    }
}
