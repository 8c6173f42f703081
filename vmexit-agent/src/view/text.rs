//! The report as tables, with the columns that users of `perf kvm stat` know.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{
    terminal::safe,
    units::{count, duration, percent, plural, rate},
};
use crate::{
    model::{Accounting, Direction, Report, Source, Stats, Vm},
    probe::Timing,
};

/// What a cell shows where there is nothing to show.
const NONE: &str = "-";

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    header(&mut out, report);
    for vm in &report.vms {
        out.push('\n');
        vm_tables(&mut out, vm, shows(report));
    }
    out
}

/// Writing to a `String` can't fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}

fn header(out: &mut String, report: &Report) {
    let host = &report.host;
    let vendor = match (host.vendor, host.kvm_module.as_deref()) {
        (Some(vendor), _) => vendor.title(),
        (None, Some(module)) => module,
        (None, None) => "unknown KVM vendor",
    };
    line!(
        out,
        "vmexit {} on {}, Linux {}, {vendor}, {}",
        report.version,
        safe(&host.name),
        safe(&host.kernel),
        plural(host.cpus as u64, "CPU")
    );
    let vcpus: usize = report.vms.iter().map(|vm| vm.vcpus.len()).sum();
    let timing = match report.timing {
        Timing::All => String::new(),
        Timing::OneIn(_) => format!(" (timed: {}, sums of time are estimates)", report.timing),
        Timing::Off => " (not timed)".to_owned(),
    };
    let early = if report.span.interrupted { " (ended early)" } else { "" };
    line!(
        out,
        "{}, {:.2} s{early}{timing}: {}, {}, {}, {}",
        report.span.start,
        report.span.seconds,
        plural(report.vms.len() as u64, "VM"),
        plural(vcpus as u64, "vCPU"),
        plural(report.accounting.observed, "exit"),
        losses(&report.accounting),
    );
    match report.source {
        Source::Exits => {}
        Source::Silent => {
            let module = host.kvm_module.as_deref().unwrap_or("KVM");
            line!(
                out,
                "\nThis host's {module} never emitted kvm_exit, while other KVM events fired: exit \
                 reasons and times\ncan't be had here. Shown is what does fire, as counts."
            );
        }
        Source::Nothing => {
            line!(
                out,
                "\nNo exit was seen: the VMs are paused or halted, or this host's KVM does not emit \
                 kvm_exit."
            );
        }
    }
}

/// What is missing from the tables below, if anything.
fn losses(accounting: &Accounting) -> String {
    let lost = &accounting.lost;
    let causes = [
        (lost.no_entry, "without entry"),
        (lost.no_book, "over --max-vcpus"),
        (lost.no_vcpu_entry, "of vCPUs over --max-vcpus"),
        (lost.unreadable, "unreadable"),
        (accounting.stray_lost, "port accesses over --max-vcpus"),
        (accounting.missed.values().sum(), "events missed by the kernel"),
        (accounting.unaccounted.unsigned_abs(), "unaccounted for"),
    ];
    let shown: Vec<String> = causes
        .into_iter()
        .filter(|&(number, _)| number > 0)
        .map(|(number, cause)| format!("{} {cause}", count(number)))
        .collect();
    let mut text =
        if shown.is_empty() { "none lost".into() } else { format!("lost: {}", shown.join(", ")) };
    if accounting.open > 0 {
        let _ = write!(text, ", {} in flight", accounting.open);
    }
    if accounting.torn > 0 {
        let _ = write!(text, ", {} read while changing", plural(accounting.torn, "vCPU"));
    }
    text
}

/// What a report has figures of.
#[derive(Clone, Copy)]
struct Shows {
    exits: bool,
    times: bool,
}

fn shows(report: &Report) -> Shows {
    let exits = report.source == Source::Exits;
    Shows { exits, times: exits && report.timing != Timing::Off }
}

fn vm_tables(out: &mut String, vm: &Vm, shows: Shows) {
    let total = &vm.total;
    let _ = write!(
        out,
        "{} (pid {}, {})",
        safe(&vm.name),
        vm.pid,
        plural(vm.vcpus.len() as u64, "vCPU")
    );
    if shows.exits {
        let _ = write!(out, ": {} exits, {}/s", count(total.samples), rate(total.per_second));
    }
    if shows.times {
        let _ = write!(
            out,
            "; handled {}, {:.1}% of a core; waiting {}",
            duration(total.handled_ns),
            total.core_percent,
            duration(total.waiting_ns),
        );
    }
    out.push('\n');
    if vm.exits.is_empty() && vm.ports.is_empty() {
        line!(out, "\n  nothing seen");
        return;
    }
    if !vm.exits.is_empty() {
        let rows = vm.exits.iter().map(|exit| (exit.reason.clone(), &exit.stats, exit.waits));
        let figures: &[Figures] =
            if shows.times { &[Figures::Times, Figures::Waiting] } else { &[] };
        table(out, "VM-EXIT", figures, rows);
    }
    if !vm.ports.is_empty() {
        let rows = vm.ports.iter().map(|port| {
            let name = match (port.port, port.direction) {
                (Some(number), Some(Direction::In)) => format!("{number:#x} IN"),
                (Some(number), Some(Direction::Out)) => format!("{number:#x} OUT"),
                _ => "other".into(),
            };
            (name, &port.stats, false)
        });
        let figures: &[Figures] = if shows.times { &[Figures::Times] } else { &[] };
        table(out, "IO-PORT", figures, rows);
    }
}

/// Columns that not every table has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figures {
    /// Shares, extremes and percentiles of the time.
    Times,
    /// Time that is no cost.
    Waiting,
}

/// One table: a name and counts, then the figures asked for.
fn table<'a>(
    out: &mut String,
    title: &str,
    figures: &[Figures],
    rows: impl Iterator<Item = (String, &'a Stats, bool)>,
) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut columns = vec![title, "Samples", "Samples%", "Rate/s"];
    if figures.contains(&Figures::Times) {
        columns.extend(["Time%", "Min", "p50", "Avg", "±", "p99", "Max"]);
    }
    if figures.contains(&Figures::Waiting) {
        columns.push("Waiting");
    }
    table.set_header(columns);
    for (name, stats, waits) in rows {
        let mut cells = vec![
            safe(&name),
            count(stats.samples),
            percent(stats.samples_percent),
            rate(stats.per_second),
        ];
        let or_none = |ns: Option<u64>| ns.map_or_else(|| NONE.into(), duration);
        if figures.contains(&Figures::Times) {
            cells.extend([
                stats.time_percent.map_or_else(|| NONE.into(), percent),
                or_none(stats.min_ns),
                or_none(stats.p50_ns),
                or_none(stats.avg_ns),
                stats.avg_error_percent.map_or_else(|| NONE.into(), percent),
                or_none(stats.p99_ns),
                or_none(stats.max_ns),
            ]);
        }
        if figures.contains(&Figures::Waiting) {
            cells.push(or_none(waits.then_some(stats.total_ns)));
        }
        table.add_row(cells.into_iter().map(Cell::new));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out.push('\n');
    for row in table.lines() {
        line!(out, " {}", row.trim_end());
    }
}
