//! The report as tables, with the columns that users of `perf kvm stat` know.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use vmexit_core::{
    escape::safe,
    report::{Accounting, ExitReporting, Report, Tables, Total, VmReport},
    units::{count, duration, plural},
};

use super::{
    explain::shares,
    sampling,
    table::{Shows, TextTable, share, text_tables},
};

/// Writing to a `String` can't fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}
pub(super) use line;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    header(&mut out, report);
    for vm in &report.vms {
        out.push('\n');
        vm_tables(&mut out, vm, Shows::of(report));
    }
    out
}

fn header(out: &mut String, report: &Report) {
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
                 reasons and times\ncan't be had here. Shown is what does fire, as counts."
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

/// Whether nothing is missing from the tables.
pub(super) fn is_complete(accounting: &Accounting) -> bool {
    causes(accounting).iter().all(|(number, _)| *number == 0)
}

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

/// What is missing from the tables, if anything.
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

fn vm_tables(out: &mut String, vm: &VmReport, shows: Shows) {
    let vcpus = plural(vm.vcpus.len() as u64, "vCPU");
    let _ = write!(out, "{} (pid {}, {vcpus})", safe(&vm.name), vm.pid);
    total(out, &vm.total, shows);
    for finding in &vm.assessment.findings {
        let shares = shares(&finding.figures, shows.exits);
        line!(out, "  finding: {}: {shares}", finding.title);
    }
    tables(out, &vm.tables, shows);
    for vcpu in &vm.vcpus {
        let Some(of_vcpu) = &vcpu.tables else { continue };
        let number = vcpu.id.map_or_else(|| "?".into(), |id| id.to_string());
        let _ = write!(out, "\n{} vCPU {number} (thread {})", safe(&vm.name), vcpu.tid);
        total(out, &vcpu.total, shows);
        tables(out, of_vcpu, shows);
    }
}

/// The rest of a heading: counts and times.
fn total(out: &mut String, total: &Total, shows: Shows) {
    if shows.exits {
        let _ =
            write!(out, ": {} exits, {}", count(total.samples), sampling::exits_per_second(total));
    }
    if shows.times {
        let handled = duration(total.handled_ns);
        let _ = write!(out, "; handled {handled}, {:.1}% of a core", total.core_percent);
        if let Some(userspace_ns) = total.userspace_ns {
            let share = share(userspace_ns, total.handled_ns);
            let _ = write!(out, ", {share:.0}% of it in userspace");
        }
        let _ = write!(out, "; waiting {}", duration(total.waiting_ns));
    }
    // What KVM emits of halts it does on hosts without exits too.
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

fn tables(out: &mut String, tables: &Tables, shows: Shows) {
    if tables.is_empty() {
        line!(out, "\n  nothing seen");
        return;
    }
    for sheet in text_tables(tables, shows) {
        table(out, &sheet);
    }
}

fn table(out: &mut String, sheet: &TextTable<'_>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(&sheet.titles);
    for row in &sheet.rows {
        table.add_row(row.cells.iter().map(Cell::new));
    }
    for column in table.column_iter_mut().skip(sheet.names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out.push('\n');
    for row in table.lines() {
        line!(out, " {}", row.trim_end());
    }
    if sheet.hidden > 0 {
        line!(out, "  … and {} more", count(sheet.hidden as u64));
    }
}
