//! docs/findings.md, generated from the rules. `VMEXIT_UPDATE=1 cargo test -p vmexit-view --test findings_doc` writes it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{env, fmt::Write as _, fs};

use vmexit_core::finding::{
    Confidence, FEWEST_SAMPLES, LEAST_CORE_PERCENT, LEAST_PER_SECOND, Os, Remedy, Rule, Threshold,
    rules,
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/findings.md");

/// The whole page.
fn document() -> String {
    let mut out = format!(
        "# Findings\n\n\
         Patterns that vmexit looks for in a VM's exits, their causes, and remedies. This page is generated from \
         the rules.\n\n\
         A pattern becomes a finding if it occurs at least {FEWEST_SAMPLES} times in the capture and takes at \
         least {LEAST_CORE_PERCENT}% of a core. The\ncount of {FEWEST_SAMPLES} random events has a standard \
         error of 5% (one in its square root), and a cost of less than {LEAST_CORE_PERCENT}% of a core\nis not \
         worth a change. If times are unknown, because the host's KVM reports no exits or too few exits were \
         timed,\na rate of {LEAST_PER_SECOND} per second takes the place of the cost (an exit to QEMU takes \
         about 10 µs), and the finding is less\ncertain. If a rule has a threshold of its own, both must be \
         reached.\n\n\
         The possible gain is the time that KVM and userspace took to handle these exits, as a share of a core. \
         It is an upper\nbound, as the replacement takes some time too. vmexit asks QEMU which device is at a \
         port or address; if QEMU cannot be\nasked, it assumes the usual place of each device. Settings that a \
         VM already has are not recommended.\n"
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
    let os = match remedy.os {
        Os::Windows => "Windows: ",
        Os::Linux => "Linux: ",
        Os::Unknown => "",
    };
    let _ = writeln!(out, "\n{os}{}", remedy.action);
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
