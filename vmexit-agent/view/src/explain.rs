//! Findings as text: the cost of a VM's exits, their causes, and remedies.

use std::fmt::{self, Write};

use vmexit_core::{
    escape::safe,
    event::Event,
    finding::{
        Advice, Confidence, Evidence, EvidenceRow, FEWEST_SAMPLES, Figures, Finding,
        LEAST_CORE_PERCENT, LEAST_PER_SECOND, Os,
    },
    report::{ExitReporting, Report, VmReport},
    timing::Timing,
    units::{count, duration, percent, plural, rate},
};

use super::{
    sampling::exits_per_second,
    subject::{device_or_name, label},
    text::line,
};

/// Width of the text, columns.
const WIDTH: usize = 100;

/// Text under construction, wrapped at a width, except for blocks that users copy.
struct Text {
    text: String,
    width: usize,
}

impl Text {
    fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    fn end_line(&mut self) {
        self.text.push('\n');
    }

    /// Adds a wrapped paragraph, each line of which begins with `indent`.
    fn add_wrapped(&mut self, indent: &str, text: &str) {
        let options =
            textwrap::Options::new(self.width).initial_indent(indent).subsequent_indent(indent);
        self.text.push_str(&textwrap::fill(text, options));
        self.end_line();
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// Findings of all VMs of a report.
pub fn explain(report: &Report) -> String {
    let mut out = Text::new(WIDTH);
    line!(
        out,
        "{}, {:.2} s on {}",
        report.span.since(),
        report.span.seconds,
        safe(&report.host.name)
    );
    for caveat in caveats(report) {
        out.add_wrapped("", &caveat);
    }
    if report.vms.is_empty() {
        line!(out, "\nNo VM was seen.");
    }
    for vm in &report.vms {
        out.end_line();
        explain_vm(&mut out, vm, report);
    }
    out.text
}

/// Findings of one VM of a report, in lines of at most `width` columns.
pub(super) fn lines(vm: &VmReport, report: &Report, width: usize) -> Vec<String> {
    let mut out = Text::new(width);
    explain_vm(&mut out, vm, report);
    out.text.lines().map(str::to_owned).collect()
}

/// Reasons why findings are less certain, or may be missing.
fn caveats(report: &Report) -> Vec<String> {
    let mut caveats = Vec::new();
    match (report.source, report.timing) {
        (ExitReporting::Silent, _) => caveats.push(
            "This host's KVM reports no exits: the findings are based on counts of other events, without \
             times, and are less certain."
                .to_owned(),
        ),
        (ExitReporting::Exits, Timing::Off) => caveats.push(
            "No exit was timed: the findings are based on counts and are less certain.".to_owned(),
        ),
        (ExitReporting::Exits, Timing::OneIn(n)) => {
            caveats.push(format!("One exit in {n} was timed: times are estimates."));
        }
        (ExitReporting::Exits, Timing::Varies) => {
            caveats.push("A varying share of the exits was timed: times are estimates.".to_owned());
        }
        _ => {}
    }
    let span = &report.span;
    if span.unwatched_seconds > 0.0 {
        caveats.push(format!(
            "Exits were counted in {:.2} of {:.2} seconds: rates are estimates.",
            span.seconds,
            span.length()
        ));
    }
    let missing: Vec<String> = Event::ALL
        .iter()
        .filter(|event| !report.events.contains(event))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        caveats.push(format!("Not captured, and therefore not assessed: {}.", missing.join(", ")));
    }
    caveats
}

fn explain_vm(out: &mut Text, vm: &VmReport, report: &Report) {
    let exits = report.has_exits();
    let vcpus = plural(vm.vcpus.len() as u64, "vCPU");
    let _ = write!(out, "{} (pid {}, {vcpus})", safe(&vm.name), vm.pid);
    if exits {
        let total = &vm.total;
        let _ = write!(out, ": {} exits, {}", count(total.samples), exits_per_second(total));
        if report.has_times() {
            let (handled, cores) = (duration(total.handled_ns), total.core_percent);
            let _ = write!(out, "; handled {handled}, {cores:.1}% of a core");
        }
    }
    out.end_line();
    let assessment = &vm.assessment;
    let guest = &assessment.guest_os;
    if guest.os != Os::Unknown {
        let os = os_name(guest.os);
        line!(out, "The guest appears to run {os}: {}.", guest.because);
    }
    if assessment.findings.is_empty() {
        out.end_line();
        out.add_wrapped("", &no_findings(vm, report));
    }
    let mut given = Vec::new();
    for (number, finding) in (1..).zip(&assessment.findings) {
        explain_finding(out, number, finding, exits, &mut given);
    }
    if !assessment.healthy.is_empty() {
        line!(out, "\nFine as it is:");
        for healthy in &assessment.healthy {
            let shares = shares(&healthy.figures, exits);
            let text = format!("{} ({shares}): {}.", healthy.title, healthy.fine);
            out.add_wrapped("  ", &text);
        }
    }
}

/// Statement that there are no findings, and the threshold that was not reached.
fn no_findings(vm: &VmReport, report: &Report) -> String {
    let seen: u64 = vm.tables.details.values().flatten().map(|row| row.stats.samples).sum();
    if vm.total.samples.max(seen) < FEWEST_SAMPLES {
        return format!(
            "Too few exits for an assessment, which needs {FEWEST_SAMPLES} of one kind. Capture for longer."
        );
    }
    let least = if report.has_times() {
        format!("{LEAST_CORE_PERCENT}% of a core")
    } else {
        format!("{LEAST_PER_SECOND} per second")
    };
    format!("Nothing here is worth a change: no pattern that vmexit knows has reached {least}.")
}

/// Writes a finding. `given` has the remedies of earlier findings with the number of the finding; they are not
/// repeated.
fn explain_finding<'a>(
    out: &mut Text,
    number: usize,
    finding: &'a Finding,
    exits: bool,
    given: &mut Vec<(&'a Advice, usize)>,
) {
    line!(out, "\n{number}. {} [{}]", capital(finding.title), finding.rule);
    out.add_wrapped("   ", &format!("{}{}", shares(&finding.figures, exits), gain(finding)));
    for row in &finding.evidence {
        write_evidence(out, row);
    }
    out.end_line();
    out.add_wrapped("   ", finding.cause);
    if !finding.devices.is_empty() {
        let devices: Vec<String> = finding.devices.iter().map(|device| safe(device)).collect();
        let text = format!("These devices are on QEMU's command line: {}.", devices.join(", "));
        out.add_wrapped("   ", &text);
    }
    for advice in &finding.remedies {
        match given.iter().find(|(before, _)| *before == advice) {
            Some((_, number)) => {
                line!(out, "\n   {}", with_os(advice.os, &format!("See {number}.")));
            }
            None => {
                write_remedy(out, advice);
                given.push((advice, number));
            }
        }
    }
    line!(out, "\n   Confidence: {}. Sources:", confidence(finding.confidence));
    for source in finding.sources {
        line!(out, "     {source}");
    }
}

fn write_evidence(out: &mut Text, evidence: &Evidence) {
    let (name, device) = names(evidence);
    let figures = &evidence.figures;
    let time =
        figures.time_percent.map_or_else(String::new, |share| format!("  {}", percent(share)));
    line!(
        out,
        "     {name:16} {device:18} {:>10} {:>7}/s {:>7}{time}",
        count(figures.samples),
        rate(figures.per_second),
        percent(figures.exits_percent),
    );
}

/// Label of a row of evidence, and its device or name.
pub(super) fn names(evidence: &Evidence) -> (String, String) {
    match &evidence.row {
        EvidenceRow::Exit { reason } => (safe(reason), String::new()),
        EvidenceRow::Detail(subject) => (safe(&label(subject)), safe(&device_or_name(subject))),
    }
}

/// Note on a remedy whose settings the VM already has.
pub(super) const OFFERED: &str =
    "The VM already has these settings, but the guest does not use them.";

/// Blocks to copy, each with the place it belongs to.
pub(super) fn blocks(advice: &Advice) -> impl Iterator<Item = (&'static str, &str)> {
    let blocks = [("libvirt (virsh edit)", &advice.libvirt), ("QEMU", &advice.qemu)];
    blocks.into_iter().filter_map(|(title, block)| Some((title, block.as_deref()?)))
}

fn write_remedy(out: &mut Text, advice: &Advice) {
    out.end_line();
    out.add_wrapped("   ", &with_os(advice.os, advice.action));
    if advice.offered {
        out.add_wrapped("   ", OFFERED);
    }
    for (title, block) in blocks(advice) {
        line!(out, "     {title}:");
        for text in block.lines() {
            line!(out, "       {text}");
        }
    }
    if let Some(inside) = advice.inside {
        out.add_wrapped("     ", inside);
    }
}

/// Share in a VM's exits and handled time: `64.52% of exits, 56.31% of handled time`. Without `exits`, the share is one
/// of events.
pub(super) fn shares(figures: &Figures, exits: bool) -> String {
    let counted = if exits { "exits" } else { "events" };
    let time = figures
        .time_percent
        .map_or_else(String::new, |share| format!(", {} of handled time", percent(share)));
    format!("{} of {counted}{time}", percent(figures.exits_percent))
}

/// Possible gain, as a suffix of the shares: `; up to 12.3% of a core to be gained`.
pub(super) fn gain(finding: &Finding) -> String {
    finding
        .gain_core_percent
        .map_or_else(String::new, |percent| format!("; up to {percent:.1}% of a core to be gained"))
}

/// Text with the operating system it is about.
fn with_os(os: Os, text: &str) -> String {
    match os_name(os) {
        "" => text.to_owned(),
        os => format!("{os}: {text}"),
    }
}

/// Name of an operating system; empty if unknown.
pub(super) fn os_name(os: Os) -> &'static str {
    match os {
        Os::Windows => "Windows",
        Os::Linux => "Linux",
        Os::Unknown => "",
    }
}

/// Name of a degree of confidence.
pub(super) fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    }
}

/// The text with a capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
