//! A report as a self-contained HTML page, without JavaScript and network access. Each VM's section has its findings,
//! then charts, each followed by the table with its figures. The page can be printed, and has a light and a dark style.

mod chart;
mod finding;
mod over_time;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vmexit_core::{
    escape::safe,
    event::Event,
    report::{ExitReporting, Report, Tables, Total, VmReport},
    units::{count, duration, plural, rate},
};

use super::{
    options::TableOptions,
    sampling,
    table::{self, KnownFigures, TextTable, share, text_tables},
    text::losses,
};

const STYLE: &str = include_str!("style.css");

/// Maximum number of rows of a chart; the table has all.
const CHARTED: usize = 16;

/// The page of a report, with all rows of its tables.
pub fn page(report: &Report) -> String {
    let mut report = report.clone();
    TableOptions::default().arrange(&mut report);
    render(&report)
}

/// The page of a report whose tables are arranged.
pub(super) fn render(report: &Report) -> String {
    let known = KnownFigures::of(report);
    let title = format!("VM exits on {}, {}", safe(&report.host.name), report.span.since());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (heading(report))
                @if report.vms.len() > 1 { (overview(&report.vms, known)) }
                @for vm in &report.vms { (vm_section(vm, known)) }
                footer {
                    "vmexit " (safe(&report.version)) ". Times are from exit to entry; percentiles are within 12.5 %. "
                    "Waiting (HLT) is no cost and not part of any share of time."
                }
            }
        }
    };
    page.into_string()
}

/// The page's heading: host, span, accounting, and a notice if there are no exits.
fn heading(report: &Report) -> Markup {
    let host = &report.host;
    let vendor = host.vendor.map_or("unknown KVM vendor", |vendor| vendor.title());
    html! {
        header {
            h1 { "VM exits on " (safe(&host.name)) }
            p.dim {
                "Linux " (safe(&host.kernel)) ", " (vendor) ", " (plural(host.cpus as u64, "CPU")) ". "
                (report.span.since()) ", " (format!("{:.2}", report.span.seconds)) " s" (sampling::aside(report)) ": "
                (plural(report.vms.len() as u64, "VM")) ", "
                (plural(report.accounting.observed, "exit")) ", " (losses(&report.accounting)) "."
            }
            @match report.source {
                ExitReporting::Exits => {}
                ExitReporting::Silent => p.notice {
                    "This host's " (safe(host.kvm_module.as_deref().unwrap_or("KVM"))) " never emitted kvm_exit, while "
                    "other KVM events fired: exit reasons and times are not available. The tables have counts "
                    "of the other events."
                },
                ExitReporting::Nothing => p.notice {
                    "No exit was seen: the VMs are paused or halted, or this host's KVM does not emit kvm_exit."
                },
            }
        }
    }
}

/// A table of all VMs, with links to their sections.
fn overview(vms: &[VmReport], known: KnownFigures) -> Markup {
    html! {
        div.scroll { table {
            caption { "VMs" }
            thead { tr {
                th.name { "VM" } th { "PID" } th { "vCPUs" }
                @if known.exits { th { "Exits/s" } }
                @if known.times { th { "Handled" } th { "Of a core" } th { "Waiting" } }
                th.name { "Findings" }
            } }
            tbody { @for vm in vms { tr {
                td.name { a href={ "#vm-" (vm.pid) } { (safe(&vm.name)) } }
                td { (vm.pid) } td { (vm.vcpus.len()) }
                @if known.exits { td { (rate(vm.total.per_second)) } }
                @if known.times {
                    td { (duration(vm.total.handled_ns)) } td { (format!("{:.1}%", vm.total.core_percent)) }
                    td { (duration(vm.total.waiting_ns)) }
                }
                td.name { @for finding in &vm.assessment.findings { (finding.rule) " " } }
            } } }
        } }
    }
}

/// The section of a VM.
fn vm_section(vm: &VmReport, known: KnownFigures) -> Markup {
    html! {
        section id={ "vm-" (vm.pid) } {
            h2 { (safe(&vm.name)) span.dim { " pid " (vm.pid) ", " (plural(vm.vcpus.len() as u64, "vCPU")) } }
            (totals(&vm.total, known))
            (finding::findings(vm, known.exits))
            @if let Some(figure) = over_time::figure(&vm.series, known.exits) { (figure) }
            (charts_and_tables(&vm.tables, known))
            @for vcpu in &vm.vcpus {
                @if let Some(tables) = &vcpu.tables {
                    h3 {
                        (safe(&vm.name)) " vCPU " (vcpu.id.map_or_else(|| "?".into(), |id| id.to_string()))
                        span.dim { " thread " (vcpu.tid) }
                    }
                    (totals(&vcpu.total, known))
                    (charts_and_tables(tables, known))
                }
            }
        }
    }
}

/// Sums over all exits.
fn totals(total: &Total, known: KnownFigures) -> Markup {
    let userspace = total.userspace_ns.filter(|_| known.times);
    let halts = total.halts.filter(|halts| halts.polled > 0);
    html! {
        dl.total {
            @if known.exits {
                div { dt { "Exits" } dd { (count(total.samples)) } }
                div { dt { "Exits" } dd { (sampling::exits_per_second(total)) } }
            }
            @if known.times {
                div { dt { "Handled" } dd { (duration(total.handled_ns)) } }
                div { dt { "Of a core" } dd { (format!("{:.1}%", total.core_percent)) } }
            }
            @if let Some(ns) = userspace {
                div { dt { "In userspace" } dd { (format!("{:.0}%", share(ns, total.handled_ns))) } }
            }
            @if known.times {
                div { dt { "Waiting" } dd { (duration(total.waiting_ns)) } }
            }
            @if let Some(halts) = halts {
                div {
                    dt { "Polled" }
                    dd { (duration(halts.polled_ns)) " in " (count(halts.polled)) " of "
                        (count(halts.polled + halts.blocked)) " halts" }
                }
            }
        }
    }
}

/// All tables of a VM or vCPU, each after its charts.
fn charts_and_tables(tables: &Tables, known: KnownFigures) -> Markup {
    let tables = text_tables(tables, known);
    let range = chart::Range::of(tables.iter().flat_map(|table| &table.rows).map(|row| row.stats));
    html! {
        @if tables.is_empty() { p { "Nothing seen." } }
        @for table in &tables {
            (charts(table, range, known))
            (html_table(table))
        }
    }
}

/// The charts of a table: shares for exit reasons, and durations.
fn charts(table: &TextTable<'_>, range: Option<chart::Range>, known: KnownFigures) -> Markup {
    let rows: Vec<chart::ChartRow<'_>> =
        table.rows.iter().take(CHARTED).map(|row| chart_row(row, table.names)).collect();
    let by_reason = table.event == Event::Vmexit;
    // The duration chart of a single row has nothing to compare with.
    let has_durations = by_reason || rows.len() > 1;
    html! {
        @if by_reason {
            figure {
                (chart::shares(&rows, "Shares of the exits and of the handled time, by exit reason"))
                figcaption {
                    span.key.exits {} "share of exits"
                    @if known.times { span.key.time {} "share of handled time" }
                }
            }
        }
        @if let Some(range) = range.filter(|_| known.times && has_durations) {
            figure {
                (chart::heat(&rows, range, "How long exits took, by row"))
                figcaption { span.key.heat {} "how long they took: the stronger the colour, the more exits" }
            }
        }
    }
}

/// A row of a table as a row of a chart; its label is the first `names` cells.
fn chart_row<'a>(row: &table::TextRow<'a>, names: usize) -> chart::ChartRow<'a> {
    let names = row.cells.iter().take(names).filter(|name| !name.is_empty());
    let label = names.map(String::as_str).collect::<Vec<_>>().join("  ");
    chart::ChartRow { label, stats: row.stats }
}

fn html_table(table: &TextTable<'_>) -> Markup {
    let title = table.titles.first().copied().unwrap_or_default();
    let class = |at: usize| (at < table.names).then_some("name");
    html! {
        div.scroll { table {
            caption { (title) }
            thead { tr { @for (at, title) in table.titles.iter().enumerate() { th class=[class(at)] { (title) } } } }
            tbody { @for row in &table.rows {
                tr { @for (at, cell) in row.cells.iter().enumerate() { td class=[class(at)] { (cell) } } }
            } }
        } }
        @if table.hidden > 0 { p.dim { "… and " (count(table.hidden as u64)) " more" } }
    }
}
