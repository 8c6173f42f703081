//! A report as one CSV table for spreadsheets: a line for each row of each table, with its host, VM and vCPU.

use csv::{Terminator, WriterBuilder};
use vmexit_core::{
    escape::escaped,
    event::Event,
    kind,
    report::{Detail, Exit, Report, Stats, Tables, VcpuReport, VmReport},
};

use super::subject::label;

/// A line: a row of a table, and the report, VM and vCPU that have the table.
struct CsvLine<'a> {
    report: &'a Report,
    vm: &'a VmReport,
    vcpu: Option<&'a VcpuReport>,
    table: Event,
    row: CsvRow<'a>,
}

/// A row of a table.
#[derive(Clone, Copy)]
enum CsvRow<'a> {
    Exit(&'a Exit),
    Detail(&'a Detail),
}

/// A column: its name, and the text of a line's cell; `None` for an empty cell.
type CsvColumn = (&'static str, fn(&CsvLine<'_>) -> Option<String>);

#[rustfmt::skip]
const COLUMNS: &[CsvColumn] = &[
    ("host",              |line| Some(text(&line.report.host.name))),
    ("start",             |line| line.report.span.start.clone()),
    ("seconds",           |line| Some(line.report.span.seconds.to_string())),
    ("unwatched_seconds", |line| Some(line.report.span.unwatched_seconds.to_string())),
    ("timing",            |line| Some(line.report.timing.to_string())),
    ("cost_percent",      |line| number(line.report.sampling?.percent())),
    ("budget_percent",    |line| number(Some(line.report.sampling?.budget_percent))),
    ("vm",                |line| Some(text(&line.vm.name))),
    ("pid",               |line| Some(line.vm.pid.to_string())),
    ("vcpu",              |line| number(line.vcpu?.id)),
    ("tid",               |line| Some(line.vcpu?.tid.to_string())),
    ("table",             |line| Some(line.table.to_string())),
    ("row",               |line| Some(text(&line.row.label()))),
    ("kind",              |line| Some(kind::name(line.row.detail()?.subject.kind).to_owned())),
    ("number",            |line| line.row.number()),
    ("direction",         |line| Some(line.row.detail()?.subject.direction?.name().to_owned())),
    ("name",              |line| line.row.detail()?.subject.name.as_deref().map(text)),
    ("device",            |line| line.row.detail()?.subject.device.as_ref()?.name.as_deref().map(text)),
    ("device_owner",      |line| line.row.detail()?.subject.device.as_ref()?.owner.as_deref().map(text)),
    ("device_offset",     |line| Some(line.row.detail()?.subject.device.as_ref()?.offset.to_string())),
    ("device_guess",      |line| Some(line.row.detail()?.subject.device.as_ref()?.guess.to_string())),
    ("waits",             |line| Some(line.row.exit()?.waits.to_string())),
    ("samples",           |line| Some(line.stats().samples.to_string())),
    ("samples_percent",   |line| Some(line.stats().samples_percent.to_string())),
    ("per_second",        |line| Some(line.stats().per_second.to_string())),
    ("accesses",          |line| Some(line.row.detail()?.accesses.to_string())),
    ("unmatched",         |line| Some(line.row.detail()?.unmatched.to_string())),
    ("timed",             |line| Some(line.stats().timed.to_string())),
    ("total_ns",          |line| Some(line.stats().total_ns.to_string())),
    ("userspace_ns",      |line| number(line.stats().userspace_ns)),
    ("time_percent",      |line| number(line.stats().time_percent)),
    ("min_ns",            |line| number(line.stats().min_ns)),
    ("avg_ns",            |line| number(line.stats().avg_ns)),
    ("max_ns",            |line| number(line.stats().max_ns)),
    ("stddev_ns",         |line| number(line.stats().stddev_ns)),
    ("avg_error_percent", |line| number(line.stats().avg_error_percent)),
    ("p50_ns",            |line| number(line.stats().p50_ns)),
    ("p90_ns",            |line| number(line.stats().p90_ns)),
    ("p99_ns",            |line| number(line.stats().p99_ns)),
    ("p999_ns",           |line| number(line.stats().p999_ns)),
];

/// The CSV of a report whose tables are arranged.
pub(super) fn render(report: &Report) -> Vec<u8> {
    // RFC 4180 ends lines with CRLF.
    let mut out = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    // Writing records of equal length to memory cannot fail.
    let _ = out.write_record(COLUMNS.iter().map(|(name, _)| name));
    for vm in &report.vms {
        let of_vm = lines(report, vm, None, &vm.tables);
        let of_vcpus = vm.vcpus.iter().filter_map(|vcpu| Some((vcpu, vcpu.tables.as_ref()?)));
        let of_vcpus = of_vcpus.flat_map(|(vcpu, tables)| lines(report, vm, Some(vcpu), tables));
        for line in of_vm.chain(of_vcpus) {
            let cells = COLUMNS.iter().map(|(_, cell)| cell(&line).unwrap_or_default());
            let _ = out.write_record(cells);
        }
    }
    out.into_inner().unwrap_or_default()
}

/// Lines of the tables of a VM, or of one of its vCPUs.
fn lines<'a>(
    report: &'a Report,
    vm: &'a VmReport,
    vcpu: Option<&'a VcpuReport>,
    tables: &'a Tables,
) -> impl Iterator<Item = CsvLine<'a>> {
    let exits = tables.exits.iter().map(|exit| (Event::Vmexit, CsvRow::Exit(exit)));
    let details = tables.details.iter();
    let details =
        details.flat_map(|(&event, rows)| rows.iter().map(move |row| (event, CsvRow::Detail(row))));
    exits.chain(details).map(move |(table, row)| CsvLine { report, vm, vcpu, table, row })
}

impl CsvLine<'_> {
    fn stats(&self) -> &Stats {
        match self.row {
            CsvRow::Exit(exit) => &exit.stats,
            CsvRow::Detail(detail) => &detail.stats,
        }
    }
}

impl<'a> CsvRow<'a> {
    fn exit(self) -> Option<&'a Exit> {
        match self {
            Self::Exit(exit) => Some(exit),
            Self::Detail(_) => None,
        }
    }

    fn detail(self) -> Option<&'a Detail> {
        match self {
            Self::Exit(_) => None,
            Self::Detail(detail) => Some(detail),
        }
    }

    fn label(self) -> String {
        match self {
            Self::Exit(exit) => exit.reason.clone(),
            Self::Detail(detail) => label(&detail.subject),
        }
    }

    fn number(self) -> Option<String> {
        match self {
            Self::Exit(exit) => number(exit.code),
            Self::Detail(detail) => number(detail.subject.number),
        }
    }
}

fn number(number: Option<impl ToString>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// Text without control characters, and with a prefix if a spreadsheet would take it for a formula
/// (<https://owasp.org/www-community/attacks/CSV_Injection>).
fn text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@']);
    format!("{}{}", if formula { "'" } else { "" }, escaped(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmexit_core::{choice::Choice as _, testing::nasty};

    use super::*;
    use crate::figure::Figure;

    #[test]
    fn csv_has_a_column_for_each_sort_key() {
        for (figure, name, _) in Figure::CHOICES {
            let column = match figure {
                Figure::Samples => "samples",
                Figure::Waiting => "total_ns",
                _ => figure.alias().unwrap(),
            };
            assert!(COLUMNS.iter().any(|(known, _)| *known == column), "{name}");
        }
    }

    #[test]
    fn csv_text_of_formula_is_quoted() {
        for (name, cell) in
            [("win10", "win10"), ("=1+1", "'=1+1"), ("@x", "'@x"), ("-1", "'-1"), ("\t=1", "\\t=1")]
        {
            assert_eq!(text(name), cell);
        }
    }

    proptest! {
        #[test]
        fn csv_text_of_any_name_is_no_formula(name in nasty()) {
            prop_assert!(!text(&name).starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
        }
    }
}
