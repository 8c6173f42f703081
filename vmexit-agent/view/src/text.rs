//! A report as text: tables with the columns of `perf kvm stat`.

use std::fmt::Write as _;

use vmexit_core::{
    escape::safe,
    report::{Accounting, ExitReporting, Report, Tables, Total, VmReport},
    units::{count, duration, plural},
};

use super::{
    explain::shares,
    sampling,
    table::{KnownFigures, TextTable, plain_lines, share, text_tables},
};

/// `writeln!` to a `String`, which cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}
pub(super) use line;

/// The text of a report whose tables are arranged.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    write_header(&mut out, report);
    for vm in &report.vms {
        out.push('\n');
        write_vm(&mut out, vm, KnownFigures::of(report));
    }
    out
}

/// Writes the host, the span, the accounting, and a note if there are no exits.
fn write_header(out: &mut String, report: &Report) {
    let host = &report.host;
    let module = host.kvm_module.as_deref().map(safe);
    let vendor = match (host.vendor, module.as_deref()) {
        (Some(vendor), _) => vendor.title(),
        (None, Some(module)) => module,
        (None, None) => "unknown KVM vendor",
    };
    line!(
        out,
        "vmexit {} on {}, Linux {}, {vendor}, {}",
        safe(&report.version),
        safe(&host.name),
        safe(&host.kernel),
        plural(host.cpus as u64, "CPU")
    );
    let vcpus: usize = report.vms.iter().map(|vm| vm.vcpus.len()).sum();
    line!(
        out,
        "{}, {:.2} s{}: {}, {}, {}, {}",
        report.span.since(),
        report.span.seconds,
        sampling::aside(report),
        plural(report.vms.len() as u64, "VM"),
        plural(vcpus as u64, "vCPU"),
        plural(report.accounting.observed, "exit"),
        losses(&report.accounting),
    );
    match report.source {
        ExitReporting::Exits => {}
        ExitReporting::Silent => {
            let module = module.as_deref().unwrap_or("KVM");
            line!(
                out,
                "\nThis host's {module} never emitted kvm_exit, while other KVM events fired: exit \
                 reasons and times\nare not available. The tables have counts of the other events."
            );
        }
        ExitReporting::Nothing => {
            line!(
                out,
                "\nNo exit was seen: the VMs are paused or halted, or this host's KVM does not emit \
                 kvm_exit."
            );
        }
    }
}

/// Whether the tables have all exits and events.
pub(super) fn is_complete(accounting: &Accounting) -> bool {
    causes(accounting).iter().all(|(number, _)| *number == 0)
}

/// Numbers of exits and events that are missing from the tables, with the cause.
fn causes(accounting: &Accounting) -> [(u64, &'static str); 7] {
    let lost = &accounting.lost;
    [
        (lost.no_entry, "without entry"),
        (lost.vcpu_limit, "over --max-vcpus"),
        (lost.vcpu_table_full, "of vCPUs over --max-vcpus"),
        (lost.unreadable, "unreadable"),
        (accounting.unmatched_lost, "events over --max-vcpus"),
        (accounting.missed.values().sum(), "events missed by the kernel"),
        (accounting.unaccounted.unsigned_abs(), "unaccounted for"),
    ]
}

/// Exits and events missing from the tables, by cause: `none lost, 2 in flight`.
pub fn losses(accounting: &Accounting) -> String {
    let shown: Vec<String> = causes(accounting)
        .into_iter()
        .filter(|&(number, _)| number > 0)
        .map(|(number, cause)| format!("{} {cause}", count(number)))
        .collect();
    let mut text =
        if shown.is_empty() { "none lost".into() } else { format!("lost: {}", shown.join(", ")) };
    if accounting.in_flight > 0 {
        let _ = write!(text, ", {} in flight", accounting.in_flight);
    }
    if accounting.torn > 0 {
        let _ = write!(text, ", {} read while changing", plural(accounting.torn, "vCPU"));
    }
    text
}

/// Writes a VM's heading, findings and tables, then those of its vCPUs.
fn write_vm(out: &mut String, vm: &VmReport, known: KnownFigures) {
    let vcpus = plural(vm.vcpus.len() as u64, "vCPU");
    let _ = write!(out, "{} (pid {}, {vcpus})", safe(&vm.name), vm.pid);
    write_total(out, &vm.total, known);
    for finding in &vm.assessment.findings {
        let shares = shares(&finding.figures, known.exits);
        line!(out, "  finding: {}: {shares}", finding.title);
    }
    write_tables(out, &vm.tables, known);
    for vcpu in &vm.vcpus {
        let Some(tables) = &vcpu.tables else { continue };
        let number = vcpu.id.map_or_else(|| "?".into(), |id| id.to_string());
        let _ = write!(out, "\n{} vCPU {number} (thread {})", safe(&vm.name), vcpu.tid);
        write_total(out, &vcpu.total, known);
        write_tables(out, tables, known);
    }
}

/// Writes counts and times, the rest of a heading.
fn write_total(out: &mut String, total: &Total, known: KnownFigures) {
    if known.exits {
        let _ =
            write!(out, ": {} exits, {}", count(total.samples), sampling::exits_per_second(total));
    }
    if known.times {
        let handled = duration(total.handled_ns);
        let _ = write!(out, "; handled {handled}, {:.1}% of a core", total.core_percent);
        if let Some(userspace_ns) = total.userspace_ns {
            let share = share(userspace_ns, total.handled_ns);
            let _ = write!(out, ", {share:.0}% of it in userspace");
        }
        let _ = write!(out, "; waiting {}", duration(total.waiting_ns));
    }
    // KVM reports halts also on hosts without exits.
    if let Some(halts) = total.halts.filter(|halts| halts.polled > 0) {
        let _ = write!(
            out,
            "; polled {} in {} of {} halts",
            duration(halts.polled_ns),
            count(halts.polled),
            count(halts.polled + halts.blocked),
        );
    }
    out.push('\n');
}

fn write_tables(out: &mut String, tables: &Tables, known: KnownFigures) {
    if tables.is_empty() {
        line!(out, "\n  nothing seen");
        return;
    }
    for table in text_tables(tables, known) {
        write_table(out, table);
    }
}

fn write_table(out: &mut String, table: TextTable<'_>) {
    let rows = table.rows.into_iter().map(|row| row.cells);
    write_rows(out, &table.titles, rows, table.names, table.hidden);
}

/// Writes an indented table whose columns after the first `names` are numbers, and how many of its rows are `hidden`.
pub(super) fn write_rows(
    out: &mut String,
    titles: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    names: usize,
    hidden: usize,
) {
    out.push('\n');
    for row in plain_lines(titles, rows, |column| column >= names) {
        line!(out, "  {row}");
    }
    if hidden > 0 {
        line!(out, "  … and {} more", count(hidden as u64));
    }
}
