//! A report as one page that needs nothing else: no network, no JavaScript. Findings come first, and charts
//! before the tables that have their figures; it prints, and follows the reader's choice of light or dark.

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
    table::{self, Shows, TextTable, share, text_tables},
    text::losses,
};

const STYLE: &str = include_str!("style.css");

/// Rows of a chart; the table has all.
const CHARTED: usize = 16;

/// A report as one self-contained page, its tables whole.
pub fn page(report: &Report) -> String {
    let mut report = report.clone();
    TableOptions::default().arrange(&mut report);
    render(&report)
}

/// The page of a report whose tables are arranged.
pub(super) fn render(report: &Report) -> String {
    let shows = Shows::of(report);
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
                @if report.vms.len() > 1 { (overview(&report.vms, shows)) }
                @for vm in &report.vms { (of_vm(vm, shows)) }
                footer {
                    "vmexit " (safe(&report.version)) ". Times are from exit to entry; percentiles are within 12.5 %. "
                    "Waiting (HLT) is no cost and not part of any share of time."
                }
            }
        }
    };
    page.into_string()
}

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
                    "other KVM events fired: exit reasons and times can't be had here. Shown is what does "
                    "fire, as counts."
                },
                ExitReporting::Nothing => p.notice {
                    "No exit was seen: the VMs are paused or halted, or this host's KVM does not emit kvm_exit."
                },
            }
        }
    }
}

/// All VMs in a table, each with a link to its own part of the page.
fn overview(vms: &[VmReport], shows: Shows) -> Markup {
    html! {
        div.scroll { table {
            caption { "VMs" }
            thead { tr {
                th.name { "VM" } th { "PID" } th { "vCPUs" }
                @if shows.exits { th { "Exits/s" } }
                @if shows.times { th { "Handled" } th { "Of a core" } th { "Waiting" } }
                th.name { "Findings" }
            } }
            tbody { @for vm in vms { tr {
                td.name { a href={ "#vm-" (vm.pid) } { (safe(&vm.name)) } }
                td { (vm.pid) } td { (vm.vcpus.len()) }
                @if shows.exits { td { (rate(vm.total.per_second)) } }
                @if shows.times {
                    td { (duration(vm.total.handled_ns)) } td { (format!("{:.1}%", vm.total.core_percent)) }
                    td { (duration(vm.total.waiting_ns)) }
                }
                td.name { @for finding in &vm.assessment.findings { (finding.rule) " " } }
            } } }
        } }
    }
}

fn of_vm(vm: &VmReport, shows: Shows) -> Markup {
    html! {
        section id={ "vm-" (vm.pid) } {
            h2 { (safe(&vm.name)) span.dim { " pid " (vm.pid) ", " (plural(vm.vcpus.len() as u64, "vCPU")) } }
            (totals(&vm.total, shows))
            (finding::findings(vm, shows.exits))
            @if let Some(figure) = over_time::figure(&vm.series, shows.exits) { (figure) }
            (of_tables(&vm.tables, shows))
            @for vcpu in &vm.vcpus {
                @if let Some(tables) = &vcpu.tables {
                    h3 {
                        (safe(&vm.name)) " vCPU " (vcpu.id.map_or_else(|| "?".into(), |id| id.to_string()))
                        span.dim { " thread " (vcpu.tid) }
                    }
                    (totals(&vcpu.total, shows))
                    (of_tables(tables, shows))
                }
            }
        }
    }
}

fn totals(total: &Total, shows: Shows) -> Markup {
    let userspace = total.userspace_ns.filter(|_| shows.times);
    let halts = total.halts.filter(|halts| halts.polled > 0);
    html! {
        dl.total {
            @if shows.exits {
                div { dt { "Exits" } dd { (count(total.samples)) } }
                div { dt { "Exits" } dd { (sampling::exits_per_second(total)) } }
            }
            @if shows.times {
                div { dt { "Handled" } dd { (duration(total.handled_ns)) } }
                div { dt { "Of a core" } dd { (format!("{:.1}%", total.core_percent)) } }
            }
            @if let Some(ns) = userspace {
                div { dt { "In userspace" } dd { (format!("{:.0}%", share(ns, total.handled_ns))) } }
            }
            @if shows.times {
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

fn of_tables(tables: &Tables, shows: Shows) -> Markup {
    let sheets = text_tables(tables, shows);
    let range = chart::Range::of(sheets.iter().flat_map(|sheet| &sheet.rows).map(|row| row.stats));
    html! {
        @if sheets.is_empty() { p { "Nothing seen." } }
        @for sheet in &sheets {
            (charts(sheet, range, shows))
            (table(sheet))
        }
    }
}

fn charts(sheet: &TextTable<'_>, range: Option<chart::Range>, shows: Shows) -> Markup {
    let rows: Vec<chart::ChartRow<'_>> =
        sheet.rows.iter().take(CHARTED).map(|row| charted(row, sheet.names)).collect();
    let by_reason = sheet.event == Event::Vmexit;
    let worth = by_reason || rows.len() > 1;
    html! {
        @if by_reason {
            figure {
                (chart::shares(&rows, "Shares of the exits and of the handled time, by exit reason"))
                figcaption {
                    span.key.exits {} "share of exits"
                    @if shows.times { span.key.time {} "share of handled time" }
                }
            }
        }
        @if let Some(range) = range.filter(|_| shows.times && worth) {
            figure {
                (chart::heat(&rows, range, "How long exits took, by row"))
                figcaption { span.key.heat {} "how long they took: the stronger the colour, the more exits" }
            }
        }
    }
}

fn charted<'a>(row: &table::TextRow<'a>, names: usize) -> chart::ChartRow<'a> {
    let names = row.cells.iter().take(names).filter(|name| !name.is_empty());
    let label = names.map(String::as_str).collect::<Vec<_>>().join("  ");
    chart::ChartRow { label, stats: row.stats }
}

fn table(sheet: &TextTable<'_>) -> Markup {
    let title = sheet.titles.first().copied().unwrap_or_default();
    let class = |at: usize| (at < sheet.names).then_some("name");
    html! {
        div.scroll { table {
            caption { (title) }
            thead { tr { @for (at, title) in sheet.titles.iter().enumerate() { th class=[class(at)] { (title) } } } }
            tbody { @for row in &sheet.rows {
                tr { @for (at, cell) in row.cells.iter().enumerate() { td class=[class(at)] { (cell) } } }
            } }
        } }
        @if sheet.hidden > 0 { p.dim { "… and " (count(sheet.hidden as u64)) " more" } }
    }
}
