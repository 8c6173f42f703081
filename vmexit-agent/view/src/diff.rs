//! Comparison of two recordings, as text or as JSON.

use std::fmt::Write as _;

use bytes::Bytes;
use vmexit_core::{
    diff::{Change, Diff, FindingDiff, MatchedBy, RowDiff, Share, Side, Verdict, VmDiff, VmSide},
    escape::safe,
    event::Event,
    report::{ExitReporting, Stats},
    units::{duration, percent, plural, rate},
};

use super::{
    Format, json,
    subject::{device_or_name, label},
    table::{NONE, titles},
    text::{line, write_rows},
};

/// Text of a cell whose difference is not significant.
const NOISE: &str = "noise";

/// A comparison in `format`, with a line feed at the end.
///
/// # Errors
/// A value that JSON cannot express; none is expected.
pub fn diff(diff: &Diff, format: Format) -> Result<Bytes, serde_json::Error> {
    match format {
        Format::Text => Ok(text(diff).into()),
        Format::Json => json(diff),
    }
}

fn text(diff: &Diff) -> String {
    let mut out = String::new();
    for (name, side) in [("before", &diff.before), ("after", &diff.after)] {
        line!(out, "{name:<6}  {}", self::side(side));
    }
    for note in &diff.notes {
        line!(out, "{}", vmexit_core::escape::cut(note, WIDEST_NOTE));
    }
    if let Some(cores) = diff.cores.as_ref().filter(|_| diff.vms.len() > 1) {
        let vms = diff.vms.iter().filter(|vm| vm.matched.is_some()).count();
        line!(out, "\n{} in both: {}", plural(vms as u64, "VM"), handled(cores));
    }
    let exits = [&diff.before, &diff.after].iter().all(|side| side.source == ExitReporting::Exits);
    for vm in &diff.vms {
        out.push('\n');
        write_vm(&mut out, vm, exits);
    }
    if diff.vms.is_empty() {
        line!(out, "\nno VM is in either");
    }
    out
}

/// Maximum width of a note, columns: enough for two names of hosts.
const WIDEST_NOTE: usize = 200;

/// Start, length, host and kernel of a recording.
fn side(side: &Side) -> String {
    format!(
        "{}, {:.2} s on {}, Linux {}",
        side.span.since(),
        side.span.seconds,
        safe(&side.host.name),
        safe(&side.host.kernel),
    )
}

/// Writes one VM; its rate of exits is shown if both recordings have exits.
fn write_vm(out: &mut String, vm: &VmDiff, exits: bool) {
    let _ = write!(out, "{}", safe(&vm.name));
    let on_one_side = |vm: &VmSide, side: &str, per_second: f64| {
        let rate = if exits { format!(", {} exits/s", rate(per_second)) } else { String::new() };
        format!(" (pid {}): only {side}{rate}\n", vm.pid)
    };
    match (&vm.before, &vm.after) {
        (Some(before), Some(after)) => write_pair(out, vm, before, after, exits),
        (Some(before), None) => out.push_str(&on_one_side(before, "before", vm.exits.before)),
        (None, Some(after)) => out.push_str(&on_one_side(after, "after", vm.exits.after)),
        (None, None) => {}
    }
}

/// Writes a VM that both recordings have.
fn write_pair(out: &mut String, vm: &VmDiff, before: &VmSide, after: &VmSide, shows_exits: bool) {
    let pids = if before.pid == after.pid {
        format!("pid {}", after.pid)
    } else {
        format!("pid {}, before {}", after.pid, before.pid)
    };
    let name = match vm.matched {
        Some(MatchedBy::Name) | None => String::new(),
        Some(MatchedBy::Uuid) => format!("; the UUID is that of {}", safe(&before.name)),
        Some(MatchedBy::Pid) => format!("; the process is that of {}", safe(&before.name)),
        Some(MatchedBy::Rest) => format!("; compared with {}", safe(&before.name)),
    };
    let vcpus = if before.vcpus == after.vcpus {
        plural(after.vcpus as u64, "vCPU")
    } else {
        format!("{}, before {}", plural(after.vcpus as u64, "vCPU"), before.vcpus)
    };
    let _ = write!(out, " ({pids}, {vcpus}{name})");
    let exits = &vm.exits;
    if shows_exits {
        let noise = if exits.is_real() { "" } else { ", within noise" };
        let _ = write!(out, ": {} → {} exits/s{noise}", rate(exits.before), rate(exits.after));
    }
    if let Some(cores) = &vm.cores {
        let _ = write!(out, "; {}", handled(cores));
    }
    out.push('\n');
    for change in &vm.findings {
        line!(out, "  {}", finding(change));
    }
    if vm.tables.is_empty() {
        line!(out, "\n  nothing to compare");
    }
    for (&event, rows) in &vm.tables {
        write_table(out, event, rows, vm.hidden.get(&event).copied().unwrap_or(0));
    }
}

/// Change of a finding: `gone: the guest …; was 70.25% of exits, 52.3% of a core`.
fn finding(change: &FindingDiff) -> String {
    let share = |share: &Share| {
        let exits = percent(share.exits_percent);
        let cost = share.gain_core_percent;
        let cost = cost.map_or_else(String::new, |cost| format!(", {cost:.1}% of a core"));
        format!("{exits} of exits{cost}")
    };
    let title = change.title;
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => {
            format!("still: {title}: {}; was {}", share(after), share(before))
        }
        (Some(before), None) => format!("gone: {title}; was {}", share(before)),
        (None, Some(after)) => format!("new: {title}: {}", share(after)),
        (None, None) => String::new(),
    }
}

/// Change of the handled time: before, after, and the difference in cores.
fn handled(cores: &Change) -> String {
    let part = |cores: f64| format!("{:.1}%", 100.0 * cores);
    let meaning = match cores.verdict {
        Verdict::Noise => "within noise".to_owned(),
        Verdict::Less | Verdict::Gone => format!("{:.2} cores saved", -cores.difference),
        Verdict::More | Verdict::New => format!("{:.2} cores more", cores.difference),
    };
    format!("handled {} → {} of a core: {meaning}", part(cores.before), part(cores.after))
}

/// Writes the rows of a table, of which `hidden` were left out.
fn write_table(out: &mut String, event: Event, rows: &[RowDiff], hidden: usize) {
    let times = rows.iter().any(|row| row.cores.is_some());
    let averages = times || rows.iter().any(|row| average(row.before.as_ref()).is_some());
    let titles = titles(event);
    let mut columns = titles.to_vec();
    columns.extend(["Rate/s", "after", "Change"]);
    if times {
        columns.extend(["Core%", "after", "Saved"]);
    }
    if averages {
        columns.extend(["Avg", "after", "p99", "after"]);
    }
    let rows = rows.iter().map(|row| {
        let names = [label(&row.subject), device_or_name(&row.subject)];
        let mut cells: Vec<String> =
            names.iter().take(titles.len()).map(|name| safe(name)).collect();
        cells.extend([rate(row.exits.before), rate(row.exits.after), change(&row.exits)]);
        if times {
            let cores = row.cores.as_ref();
            let part = |part: Option<f64>| {
                part.map_or_else(|| NONE.into(), |part| format!("{:.2}%", 100.0 * part))
            };
            cells.extend([
                part(cores.map(|cores| cores.before)),
                part(cores.map(|cores| cores.after)),
                cores.map_or_else(|| NONE.into(), saved),
            ]);
        }
        if averages {
            let or_none = |ns: Option<u64>| ns.map_or_else(|| NONE.into(), duration);
            let p99 = |stats: &Option<Stats>| stats.as_ref().and_then(|stats| stats.p99_ns);
            cells.extend([
                or_none(average(row.before.as_ref())),
                or_none(average(row.after.as_ref())),
                or_none(p99(&row.before)),
                or_none(p99(&row.after)),
            ]);
        }
        cells
    });
    write_rows(out, &columns, rows, titles.len(), hidden);
}

fn average(stats: Option<&Stats>) -> Option<u64> {
    stats?.avg_ns
}

/// Change of a rate: `gone`, `new`, `-82%`, `×12`, `noise`.
fn change(change: &Change) -> String {
    let Change { before, after, .. } = change;
    match change.verdict {
        Verdict::Noise => NOISE.into(),
        Verdict::Gone => "gone".into(),
        Verdict::New => "new".into(),
        Verdict::Less => format!("-{:.0}%", 100.0 * (1.0 - after / before)),
        Verdict::More if after / before < 10.0 => {
            format!("+{:.0}%", 100.0 * (after / before - 1.0))
        }
        Verdict::More => format!("×{}", rate(after / before)),
    }
}

/// Time saved, percent of a core; negative if the exits cost more than before.
fn saved(cores: &Change) -> String {
    if cores.is_real() { format!("{:.2}%", -100.0 * cores.difference) } else { NOISE.into() }
}
