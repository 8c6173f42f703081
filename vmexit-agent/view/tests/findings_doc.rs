//! docs/findings.md, which is generated from the rules: `VMEXIT_UPDATE=1 cargo test -p vmexit-view --test
//! findings_doc` writes it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use vmexit_core::{
    event::Event,
    finding::{
        Confidence, FEWEST_SAMPLES, LEAST_CORE_PERCENT, LEAST_PER_SECOND, Os, Pattern, Remedy,
        Rule, Threshold, rules,
    },
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/findings.md");

/// The whole page.
fn document() -> String {
    let mut out = format!(
        "# Findings\n\n\
         The patterns of exits that vmexit knows, why guests cause them, and what to change. This page is generated \
         from\nthe rules in `vmexit-agent/core/src/finding/rules/`.\n\n\
         A pattern is a finding if it has at least {FEWEST_SAMPLES} exits in the capture and reaches the threshold of \
         its rule. The\nstandard error of a count of {FEWEST_SAMPLES} random events is 5% (one in its square root). \
         Costs below {LEAST_CORE_PERCENT}% of a core are not worth a\nchange. If times are unknown, because KVM \
         reports no exits or too few were timed, a rate of {LEAST_PER_SECOND}/s replaces\n{LEAST_CORE_PERCENT}% of a \
         core (an exit to QEMU takes about 10 µs), and the confidence is lower.\n\n\
         The gain of a finding is the time in which its exits were handled, as a share of a core. It is an upper \
         limit: what\nreplaces the exits takes some of it. Devices have the names in QEMU's memory tree, or, if QEMU \
         cannot be asked, those of\ncommon VM layouts. Settings that a VM already has are not recommended.\n"
    );
    for rule in rules() {
        section(&mut out, rule);
    }
    out
}

fn section(out: &mut String, rule: &Rule) {
    let _ = writeln!(out, "\n## {}\n\n{}.\n", rule.id, capital(rule.title));
    let _ = writeln!(out, "- Pattern: {}", rule.sign);
    let _ = writeln!(out, "- Events: {}", events(rule.patterns));
    let cost = format!("{LEAST_CORE_PERCENT}% of a core");
    let (threshold, fine) = match rule.threshold {
        Threshold::Cost => (cost, "Normal below it"),
        Threshold::Core(percent) => {
            (format!("{percent}% of a core; no finding if times are unknown"), "Normal below it")
        }
        Threshold::PerVcpu(rate) => (format!("{cost}, and {rate}/s per vCPU"), "Normal below it"),
        Threshold::Never => ("none (informational)".to_owned(), "Normal"),
    };
    let _ = writeln!(out, "- Threshold: {threshold}");
    for (name, text) in [(fine, rule.fine.unwrap_or_default()), ("Cause", rule.cause)] {
        if !text.is_empty() {
            let _ = writeln!(out, "- {name}: {text}");
        }
    }
    let confidence = match rule.confidence {
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    };
    let _ = writeln!(out, "- Confidence: {confidence}");
    let _ = writeln!(out, "- Sources: {}", rule.sources.join("; "));
    rule.remedies.iter().for_each(|advice| remedy(out, advice));
}

/// Events that the patterns match, as in `--event`.
fn events(patterns: &[Pattern]) -> String {
    let events = patterns.iter().flat_map(|pattern| match pattern {
        Pattern::Exits(_) => vec![Event::Vmexit],
        Pattern::Device(_) => vec![Event::Ioport, Event::Mmio],
        Pattern::Msrs(..) => vec![Event::Msr],
        Pattern::Cpuid => vec![Event::Cpuid],
        Pattern::KvmCalls(_) | Pattern::HyperVCalls(_) => vec![Event::Hypercall],
        Pattern::Faults(_) => vec![Event::Fault],
        Pattern::Doorbells => vec![Event::Mmio],
        Pattern::UnknownDevice => vec![Event::Mmio, Event::Userspace],
        Pattern::Polling => vec![Event::Halt],
    });
    let names: Vec<String> =
        events.collect::<BTreeSet<_>>().iter().map(|event| format!("`{event}`")).collect();
    names.join(", ")
}

fn remedy(out: &mut String, remedy: &Remedy) {
    let guest = match remedy.os {
        Os::Windows => "Windows: ",
        Os::Linux => "Linux: ",
        Os::Unknown => "",
    };
    let _ = writeln!(out, "\n{guest}{}", remedy.action);
    if !remedy.inside.is_empty() {
        let _ = writeln!(out, "{}", remedy.inside);
    }
    if let Some((xml, options)) = remedy.all() {
        let _ = writeln!(out, "\n```xml\n{xml}\n```\n\n```\n{options}\n```");
    }
}

/// The text as a sentence; `vCPUs` stays as it is.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next().filter(|_| !text.starts_with("vCPU")) else {
        return text.into();
    };
    first.to_uppercase().chain(chars).collect()
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
