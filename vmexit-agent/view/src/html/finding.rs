//! What a VM's exits mean, as the first thing on its part of the page.

use maud::{Markup, html};
use vmexit_core::{
    escape::safe,
    finding::{Advice, Evidence, Finding, Healthy, Os},
    report::VmReport,
    units::{count, percent, rate},
};

use crate::explain::{OFFERED, blocks, capital, certainty, gain, names, shares, title};

/// All of a VM's findings; `exits` says whether exits were reported.
pub(super) fn findings(vm: &VmReport, exits: bool) -> Markup {
    let assessment = &vm.assessment;
    let mut said = Vec::new();
    html! {
        @if assessment.guest_os.os != Os::Unknown {
            p.dim { "Taken for " (title(assessment.guest_os.os)) ": " (assessment.guest_os.because) "." }
        }
        @for finding in &assessment.findings { (of(finding, exits, &mut said)) }
        @if !assessment.healthy.is_empty() {
            details.healthy open {
                summary { "Fine as it is" }
                ul { @for healthy in &assessment.healthy { (fine(healthy, exits)) } }
            }
        }
    }
}

/// `said` is which remedies were given before, and for which finding.
fn of<'a>(finding: &'a Finding, exits: bool, said: &mut Vec<(&'a Advice, &'static str)>) -> Markup {
    html! {
        article.finding {
            h3 { (capital(finding.title)) span.dim { " " (finding.rule) } }
            p { strong { (shares(&finding.figures, exits)) (gain(finding)) } }
            table.evidence { tbody { @for row in &finding.evidence { (evidence(row)) } } }
            p { (prose(finding.cause)) }
            @if !finding.devices.is_empty() {
                p {
                    "Its command line has these devices in QEMU: "
                    (finding.devices.iter().map(|device| safe(device)).collect::<Vec<_>>().join(", ")) "."
                }
            }
            @for advice in &finding.remedies {
                @if let Some((_, rule)) = said.iter().find(|(before, _)| *before == advice) {
                    p { (for_whom(advice.os)) "As for " (rule) "." }
                } @else {
                    (remedy(advice))
                    @let () = said.push((advice, finding.rule));
                }
            }
            p.dim { "Certainty: " (certainty(finding.confidence)) ". Sources: " (finding.sources.join("; ")) }
        }
    }
}

fn evidence(evidence: &Evidence) -> Markup {
    let (name, device) = names(evidence);
    let figures = &evidence.figures;
    html! {
        tr {
            td.name { (name) } td.name { (device) } td { (count(figures.samples)) }
            td { (rate(figures.per_second)) "/s" } td { (percent(figures.exits_percent)) }
            td { @if let Some(share) = figures.time_percent { (percent(share)) } }
        }
    }
}

fn remedy(advice: &Advice) -> Markup {
    html! {
        p {
            (for_whom(advice.os)) (prose(advice.action))
            @if advice.offered { " " (OFFERED) }
        }
        @for (title, block) in blocks(advice) { p.dim { (title) } pre { (block) } }
        @if let Some(inside) = advice.inside { p { (prose(inside)) } }
    }
}

fn for_whom(os: Os) -> Markup {
    html! { @if os != Os::Unknown { strong { (title(os)) ": " } } }
}

/// Text with commands between backticks.
fn prose(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn fine(healthy: &Healthy, exits: bool) -> Markup {
    html! { li { (healthy.title) " (" (shares(&healthy.figures, exits)) "): " (healthy.fine) "." } }
}
