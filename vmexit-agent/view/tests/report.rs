//! Reports of made-up guests, and their renderings as text, JSON and HTML.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use made_up::{SECOND, report, report_of, row, unmatched, vcpu};
use vmexit_common::key::Key;
use vmexit_core::{
    event::Event,
    report::{ExitReporting, Report},
    vendor::Vendor,
};
use vmexit_view::{ReportFormat, TableOptions};

fn windows() -> Report {
    let mut report = report_of(&made_up::windows());
    TableOptions::default().arrange(&mut report);
    report
}

fn silent() -> Report {
    report_of(&made_up::silent())
}

fn rendered(report: &Report, format: ReportFormat) -> String {
    String::from_utf8(
        vmexit_view::render(report.clone(), &TableOptions::default(), format).unwrap().to_vec(),
    )
    .unwrap()
}

#[test]
fn report_text_of_busy_guest() {
    insta::assert_snapshot!(rendered(&windows(), ReportFormat::Text));
}

#[test]
fn report_text_of_silent_host() {
    insta::assert_snapshot!(rendered(&silent(), ReportFormat::Text));
}

#[test]
fn report_json_of_busy_guest() {
    insta::assert_snapshot!(rendered(&windows(), ReportFormat::Json));
}

#[test]
fn report_leading_reason_and_detail_match_tables() {
    let busy = windows().vms.remove(0);
    let (reason, detail) = (busy.leading.reason.unwrap(), busy.leading.detail.unwrap());
    let first = &busy.tables.exits[0];
    assert_eq!(reason.reason, first.reason);
    assert_eq!(Some(reason.share_percent), first.stats.time_percent);
    let first = &busy.tables.details[&Event::Ioport][0];
    assert_eq!(detail.subject, first.subject);
    assert_eq!(Some(detail.share_percent), first.stats.time_percent);

    let silent = silent().vms.remove(0);
    assert!(silent.leading.reason.is_none());
    let detail = silent.leading.detail.unwrap();
    assert_eq!((detail.subject.number, silent.total.unmatched), (Some(0x608), 1_010));
    assert!((detail.share_percent - 100_000.0 / 1_010.0).abs() < 1e-9);
}

#[test]
fn report_page_of_busy_guest() {
    insta::assert_snapshot!(vmexit_view::page(&windows()));
}

#[test]
fn report_page_fetches_nothing_and_escapes_names() {
    for report in [windows(), silent()] {
        let page = vmexit_view::page(&report);
        // Sources of findings are text, not links.
        for foreign in ["<script", "<link", "href=\"http", "url(", "@import", " src=", "\u{1b}"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
    let mut report = windows();
    report.vms[0].name = "<script>alert(1)</script>\u{202e}&\"".into();
    let page = vmexit_view::page(&report);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}&amp;&quot;"), "{page}");
    assert!(!page.contains("<script") && !page.contains('\u{202e}'));
}

#[test]
fn report_accounting_adds_up() {
    let report = windows();
    let accounting = &report.accounting;
    let rows: u64 = report.vms[0].tables.exits.iter().map(|exit| exit.stats.samples).sum();
    assert_eq!(rows, accounting.recorded);
    assert_eq!(accounting.observed, accounting.recorded + accounting.in_flight as u64);
    assert_eq!(accounting.unaccounted, 0);
    let vcpus: u64 = report.vms[0].vcpus.iter().map(|vcpu| vcpu.total.samples).sum();
    assert_eq!(vcpus, rows);
}

#[test]
fn report_waiting_is_not_handled_time() {
    let vm = &windows().vms[0];
    let halted = vm.tables.exits.last().unwrap();
    assert_eq!((halted.reason.as_str(), halted.waits), ("HLT", true));
    assert_eq!(halted.stats.time_percent, None);
    assert_eq!(vm.total.waiting_ns, 4 * SECOND);
    let shares: f64 = vm.tables.exits.iter().filter_map(|exit| exit.stats.time_percent).sum();
    assert!((shares - 100.0).abs() < 0.01, "{shares}");
}

#[test]
fn report_of_silent_host_is_not_idle() {
    let report = silent();
    assert_eq!(report.source, ExitReporting::Silent);
    let port = &report.vms[0].tables.details[&Event::Ioport][0].stats;
    assert_eq!((port.samples, port.avg_ns), (1_000, None));
}

#[test]
fn report_json_fields_are_documented() {
    let docs = include_str!("../../../docs/json.md");
    let mut names = std::collections::BTreeSet::new();
    made_up::fields(&serde_json::to_value(windows()).unwrap(), &mut names);
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
    }
}

#[test]
fn report_unmatched_access_is_no_sample() {
    let mut port = row(Key::pio(0x608, 0, 4), &[(6_000, 10)]);
    port.row.unmatched = 1;
    let reasons = vec![row(Key::reason(30), &[(6_000, 10)])];
    let details = vec![port, unmatched(Key::pio(0x71, 0, 1), 1)];
    let report = report(Some(Vendor::Vmx), "caught", vec![vcpu(0, reasons, details)]);
    let ports = &report.vms[0].tables.details[&Event::Ioport];
    assert_eq!(ports.len(), 1, "no row for an access without an exit");
    assert_eq!((ports[0].stats.samples, ports[0].unmatched), (10, 1));
    assert_eq!(report.accounting.unmatched, 2);
}
