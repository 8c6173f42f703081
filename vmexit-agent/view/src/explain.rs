//! Findings at length: what a VM's exits cost, which of them are worth a change, and which change.

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
    subject::{label, what},
    text::line,
};

/// Columns of the text.
const WIDTH: usize = 100;

/// Text of so many columns; blocks to be copied are left as they are.
struct Text {
    text: String,
    width: usize,
}

impl Text {
    fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn wrapped(&mut self, indent: &str, text: &str) {
        let options =
            textwrap::Options::new(self.width).initial_indent(indent).subsequent_indent(indent);
        self.text.push_str(&textwrap::fill(text, options));
        self.gap();
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// The findings of all VMs of a report, in words.
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
        out.wrapped("", &caveat);
    }
    if report.vms.is_empty() {
        line!(out, "\nNo VM was seen.");
    }
    for vm in &report.vms {
        out.gap();
        explain_vm(&mut out, vm, report);
    }
    out.text
}

/// The findings of one of its VMs, in lines of so many columns.
pub(super) fn lines(vm: &VmReport, report: &Report, width: usize) -> Vec<String> {
    let mut out = Text::new(width);
    explain_vm(&mut out, vm, report);
    out.text.lines().map(str::to_owned).collect()
}

/// What makes the findings less certain, or fewer.
fn caveats(report: &Report) -> Vec<String> {
    let mut caveats = Vec::new();
    match (report.source, report.timing) {
        (ExitReporting::Silent, _) => caveats.push(
            "This host's KVM reports no exits: what follows rests on counts of other events, without \
             times, and is the less certain for it."
                .to_owned(),
        ),
        (ExitReporting::Exits, Timing::Off) => caveats.push(
            "No exit was timed: what follows rests on counts, and is the less certain for it.".to_owned(),
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
            "Watched were {:.2} of {:.2} seconds: rates are estimates.",
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
        caveats.push(format!("Not captured, and so not looked at: {}.", missing.join(", ")));
    }
    caveats
}

fn explain_vm(out: &mut Text, vm: &VmReport, report: &Report) {
    let exits = report.source == ExitReporting::Exits;
    let vcpus = plural(vm.vcpus.len() as u64, "vCPU");
    let _ = write!(out, "{} (pid {}, {vcpus})", safe(&vm.name), vm.pid);
    if exits {
        let total = &vm.total;
        let _ = write!(out, ": {} exits, {}", count(total.samples), exits_per_second(total));
        if report.timing != Timing::Off {
            let (handled, cores) = (duration(total.handled_ns), total.core_percent);
            let _ = write!(out, "; handled {handled}, {cores:.1}% of a core");
        }
    }
    out.gap();
    let assessment = &vm.assessment;
    let guest = &assessment.guest_os;
    if guest.os != Os::Unknown {
        let os = title(guest.os);
        line!(out, "The guest is taken for {os}: {}.", guest.because);
    }
    if assessment.findings.is_empty() {
        out.gap();
        out.wrapped("", &nothing(vm, report));
    }
    let mut said = Vec::new();
    for (number, finding) in (1..).zip(&assessment.findings) {
        explain_finding(out, number, finding, exits, &mut said);
    }
    if !assessment.healthy.is_empty() {
        line!(out, "\nFine as it is:");
        for healthy in &assessment.healthy {
            let shares = shares(&healthy.figures, exits);
            let text = format!("{} ({shares}): {}.", healthy.title, healthy.fine);
            out.wrapped("  ", &text);
        }
    }
}

/// That there is nothing, and how certain that is.
fn nothing(vm: &VmReport, report: &Report) -> String {
    let seen: u64 = vm.tables.details.values().flatten().map(|row| row.stats.samples).sum();
    if vm.total.samples.max(seen) < FEWEST_SAMPLES {
        return format!(
            "Too little was seen to say anything: it takes {FEWEST_SAMPLES} exits of one kind. Capture for \
             longer."
        );
    }
    let least = if report.source == ExitReporting::Exits && report.timing != Timing::Off {
        format!("{LEAST_CORE_PERCENT}% of a core")
    } else {
        format!("{LEAST_PER_SECOND} a second")
    };
    format!("Nothing here is worth a change: no pattern that vmexit knows has come to {least}.")
}

/// `said` is which remedies were given before, and for which finding.
fn explain_finding<'a>(
    out: &mut Text,
    number: usize,
    finding: &'a Finding,
    exits: bool,
    said: &mut Vec<(&'a Advice, usize)>,
) {
    line!(out, "\n{number}. {} [{}]", capital(finding.title), finding.rule);
    out.wrapped("   ", &format!("{}{}", shares(&finding.figures, exits), gain(finding)));
    for row in &finding.evidence {
        evidence(out, row);
    }
    out.gap();
    out.wrapped("   ", finding.cause);
    if !finding.devices.is_empty() {
        let devices: Vec<String> = finding.devices.iter().map(|device| safe(device)).collect();
        let text = format!("Its command line has these devices in QEMU: {}.", devices.join(", "));
        out.wrapped("   ", &text);
    }
    for advice in &finding.remedies {
        match said.iter().find(|(before, _)| *before == advice) {
            Some((_, number)) => {
                line!(out, "\n   {}", for_whom(advice.os, &format!("As for {number}.")));
            }
            None => {
                remedy(out, advice);
                said.push((advice, number));
            }
        }
    }
    line!(out, "\n   Certainty: {}. Sources:", certainty(finding.confidence));
    for source in finding.sources {
        line!(out, "     {source}");
    }
}

fn evidence(out: &mut Text, evidence: &Evidence) {
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

/// What a row of evidence is of, and what that is called.
pub(super) fn names(evidence: &Evidence) -> (String, String) {
    match &evidence.row {
        EvidenceRow::Exit { reason } => (safe(reason), String::new()),
        EvidenceRow::Detail(subject) => (safe(&label(subject)), safe(&what(subject))),
    }
}

/// What is said of advice that the VM has followed.
pub(super) const OFFERED: &str = "The VM is offered that already; the guest does not use it.";

/// What is to be copied of an advice, and into what.
pub(super) fn blocks(advice: &Advice) -> impl Iterator<Item = (&'static str, &str)> {
    let blocks = [("libvirt (virsh edit)", &advice.libvirt), ("QEMU", &advice.qemu)];
    blocks.into_iter().filter_map(|(title, block)| Some((title, block.as_deref()?)))
}

fn remedy(out: &mut Text, advice: &Advice) {
    out.gap();
    out.wrapped("   ", &for_whom(advice.os, advice.action));
    if advice.offered {
        out.wrapped("   ", OFFERED);
    }
    for (title, block) in blocks(advice) {
        line!(out, "     {title}:");
        for text in block.lines() {
            line!(out, "       {text}");
        }
    }
    if let Some(inside) = advice.inside {
        out.wrapped("     ", inside);
    }
}

/// How much of a VM's exits something is: `64.52% of exits, 56.31% of handled time`.
pub(super) fn shares(figures: &Figures, exits: bool) -> String {
    let what = if exits { "exits" } else { "events" };
    let time = figures
        .time_percent
        .map_or_else(String::new, |share| format!(", {} of handled time", percent(share)));
    format!("{} of {what}{time}", percent(figures.exits_percent))
}

/// What there is to be gained, behind the shares: `; up to 12.3% of a core to be gained`.
pub(super) fn gain(finding: &Finding) -> String {
    finding
        .gain_core_percent
        .map_or_else(String::new, |percent| format!("; up to {percent:.1}% of a core to be gained"))
}

fn for_whom(os: Os, text: &str) -> String {
    match title(os) {
        "" => text.to_owned(),
        os => format!("{os}: {text}"),
    }
}

pub(super) fn title(os: Os) -> &'static str {
    match os {
        Os::Windows => "Windows",
        Os::Linux => "Linux",
        Os::Unknown => "",
    }
}

pub(super) fn certainty(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
