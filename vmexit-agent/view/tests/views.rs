//! Text, JSON, CSV, HTML and the live view have the same figures of a recording.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::{collections::BTreeSet, fs::File, io::BufReader, path::Path, time::SystemTime};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use made_up::report_of;
use ratatui::{Terminal, backend::TestBackend};
use serde_json::Value;
use vmexit_core::{
    measurement::Measurement,
    report::{Report, VmReport},
    store::file,
    units,
};
use vmexit_view::{
    ReportFormat, TableOptions,
    top::{FrameData, Settings, State, Theme, draw},
};

/// A row that all views must have.
struct ExpectedRow {
    table: vmexit_core::event::Event,
    label: String,
    samples: u64,
}

/// All rows of a VM with figures.
fn rows(vm: &VmReport) -> Vec<ExpectedRow> {
    let exits = vm.tables.exits.iter().map(|exit| ExpectedRow {
        table: vmexit_core::event::Event::Vmexit,
        label: exit.reason.clone(),
        samples: exit.stats.samples,
    });
    let details = vm.tables.details.iter().flat_map(|(&table, rows)| {
        rows.iter().map(move |row| ExpectedRow {
            table,
            label: vmexit_view::subject_label(&row.subject),
            samples: row.stats.samples,
        })
    });
    // A row whose accesses were all parts of other exits has no figures.
    exits.chain(details).filter(|row| row.samples > 0).collect()
}

fn rendered(report: &Report, format: ReportFormat) -> String {
    String::from_utf8(
        vmexit_view::render(report.clone(), &TableOptions::default(), format).unwrap().to_vec(),
    )
    .unwrap()
}

/// The live view of one VM.
struct Live(State);

impl Live {
    fn of(report: &Report, pid: u32) -> Self {
        let settings = Settings { open: Some(pid), ..Settings::default() };
        let data = FrameData {
            time: SystemTime::UNIX_EPOCH,
            interval: report.clone(),
            cumulative: None,
            ended: BTreeSet::new(),
        };
        let mut state = State::new(settings, data.clone(), (200, 60));
        state.update(data);
        Self(state)
    }

    fn press(&mut self, code: KeyCode) {
        self.0.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    fn screen(&self) -> String {
        let mut terminal = Terminal::new(TestBackend::new(200, 60)).unwrap();
        terminal.draw(|frame| draw(frame, &self.0, &Theme::default())).unwrap();
        terminal.backend().to_string()
    }
}

/// Whether one line has all of these texts.
fn has_line(text: &str, cells: &[&str]) -> bool {
    text.lines().any(|line| cells.iter().all(|cell| line.contains(cell)))
}

/// Compares all views of a recording.
fn assert_views_agree(recording: &Measurement) {
    let report = report_of(recording);
    let text = rendered(&report, ReportFormat::Text);
    let page = rendered(&report, ReportFormat::Html);
    let json: Value = serde_json::from_str(&rendered(&report, ReportFormat::Json)).unwrap();
    let csv = rendered(&report, ReportFormat::Csv);
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let titles = csv.headers().unwrap().clone();
    let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    let column = |name: &str| titles.iter().position(|title| title == name).unwrap();
    let (pid, table, label, samples) =
        (column("pid"), column("table"), column("row"), column("samples"));

    for (at, vm) in report.vms.iter().enumerate() {
        let rows = rows(vm);
        assert!(!rows.is_empty());
        let mut live = Live::of(&report, vm.pid);
        live.press(KeyCode::Char('%'));
        let screens: Vec<String> = (1..=9)
            .map(|tab| {
                live.press(KeyCode::Char(char::from_digit(tab, 10).unwrap()));
                live.screen()
            })
            .collect();
        for row in &rows {
            let (shown, count) = (vmexit_core::escape::safe(&row.label), units::count(row.samples));
            assert!(has_line(&text, &[&shown, &count]), "text: {shown} {count}");
            assert!(page.contains(&format!(">{shown}</td>")), "page: {shown}");
            assert!(page.contains(&format!("<td>{count}</td>")), "page: {shown} {count}");
            // Long labels are cut in the live view.
            let start: String = shown.chars().take(16).collect();
            assert!(
                screens.iter().any(|screen| has_line(screen, &[&start, &count])),
                "live view: {start} {count}: {screens:#?}"
            );
            assert!(
                lines.iter().any(|line| line[pid] == vm.pid.to_string()
                    && line[table] == row.table.to_string()
                    && line[label] == row.label
                    && line[samples] == row.samples.to_string()),
                "CSV: {shown} {count}"
            );
            let of_vm = &json["vms"][at];
            let table = match row.table {
                vmexit_core::event::Event::Vmexit => &of_vm["exits"],
                event => &of_vm["details"][event.to_string()],
            };
            let mut table = table.as_array().unwrap().iter();
            assert!(table.any(|json| json["samples"] == row.samples), "JSON: {shown} {count}");
        }
        let findings = &vm.assessment.findings;
        let explained = vmexit_view::explain(&report);
        for finding in findings {
            let share = units::percent(finding.figures.exits_percent);
            assert!(has_line(&text, &["finding: ", finding.title, &share]), "{}", finding.rule);
            assert!(explained.contains(&format!("[{}]", finding.rule)), "{}", finding.rule);
            assert!(page.contains(&format!("{share} of ")), "{}", finding.rule);
            assert!(page.contains(finding.cause.split('\'').next().unwrap()), "{}", finding.rule);
            let in_json = json["vms"][at]["findings"].as_array().unwrap();
            assert!(in_json.iter().any(|json| json["rule"] == finding.rule), "{}", finding.rule);
        }
        if let Some(first) = findings.first() {
            assert!(has_line(&screens[0], &["! ", first.title]), "{}", first.rule);
        }
    }
}

#[test]
fn views_of_one_recording_agree() {
    assert_views_agree(&made_up::windows());
    assert_views_agree(&made_up::silent());
    for name in ["1-amd.vmexit", "1-demo.vmexit", "1-silent.vmexit"] {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recording").join(name);
        assert_views_agree(&file::read(BufReader::new(File::open(file).unwrap())).unwrap());
    }
}
