//! docs/findings.md, which is made from the rules: `VMEXIT_UPDATE=1 cargo test --test findings_doc` writes it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{env, fmt::Write as _, fs};

use vmexit_core::finding::{
    Confidence, FEWEST_SAMPLES, LEAST_CORE_PERCENT, LEAST_PER_SECOND, Os, Remedy, Rule, Threshold,
    rules,
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/findings.md");

fn document() -> String {
    let mut out = format!(
        "# Findings\n\n\
         What vmexit looks for in a VM's exits, why guests do it, and what to change. This page is made from the \
         rules\nthemselves.\n\n\
         A pattern becomes a finding when it was seen {FEWEST_SAMPLES} times or more in the capture and takes at \
         least {LEAST_CORE_PERCENT}% of a\ncore. Of {FEWEST_SAMPLES} events that come by chance the count has a \
         standard error of 5% (one in its square root); what costs less\nthan {LEAST_CORE_PERCENT}% of a core is \
         not worth a change. Where no time is known, because the host's KVM reports no exits or\ntoo few were timed, \
         {LEAST_PER_SECOND} times a second stand for that (an exit to QEMU takes some 10 µs), and the finding is \
         less\ncertain. Where a rule says more, both must hold.\n\n\
         What to gain is the time in which these exits were handled, as a share of a core: the most that can go \
         away, since what\ncomes in their place takes some of it. Devices are known by what QEMU says is at a port \
         or address; where it can't be asked,\nby where such VMs commonly have them. Settings that a VM has \
         already are not recommended again.\n"
    );
    for rule in rules() {
        section(&mut out, rule);
    }
    out
}

fn section(out: &mut String, rule: &Rule) {
    let _ = writeln!(out, "\n## {}\n\n{}.\n", rule.id, capital(rule.title));
    let _ = writeln!(out, "- Sign: {}", rule.sign);
    let threshold = match rule.threshold {
        Threshold::Cost => None,
        Threshold::Core(percent) => Some(format!("{percent}% of a core; nothing without times")),
        Threshold::PerVcpu(rate) => Some(format!("{rate} times per second and vCPU")),
        Threshold::Never => Some("none (informational)".to_owned()),
    };
    for (name, text) in [
        ("Threshold", threshold.as_deref()),
        ("Fine otherwise", rule.fine.filter(|_| rule.threshold != Threshold::Never)),
        ("Fine", rule.fine.filter(|_| rule.threshold == Threshold::Never)),
        ("Cause", Some(rule.cause).filter(|cause| !cause.is_empty())),
    ] {
        if let Some(text) = text {
            let _ = writeln!(out, "- {name}: {text}");
        }
    }
    let confidence = match rule.confidence {
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    };
    let _ = writeln!(out, "- Certainty: {confidence}");
    let _ = writeln!(out, "- Sources: {}", rule.sources.join("; "));
    rule.remedies.iter().for_each(|advice| remedy(out, advice));
}

fn remedy(out: &mut String, remedy: &Remedy) {
    let whom = match remedy.os {
        Os::Windows => "Windows: ",
        Os::Linux => "Linux: ",
        Os::Unknown => "",
    };
    let _ = writeln!(out, "\n{whom}{}", remedy.action);
    if !remedy.inside.is_empty() {
        let _ = writeln!(out, "{}", remedy.inside);
    }
    if let Some((xml, options)) = remedy.all() {
        let _ = writeln!(out, "\n```xml\n{xml}\n```\n\n```\n{options}\n```");
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

#[test]
fn findings_page_matches_rules() {
    let document = document();
    if env::var_os("VMEXIT_UPDATE").is_some() {
        fs::write(PATH, &document).unwrap();
    }
    let written = fs::read_to_string(PATH).unwrap_or_default();
    assert!(written == document, "docs/findings.md is out of date: see the head of this file");
}
