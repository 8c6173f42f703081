//! Findings of a VM as HTML, at the top of its section of the page.

use maud::{Markup, html};
use vmexit_core::{
    escape::safe,
    finding::{Advice, Evidence, Finding, Healthy, Os},
    report::VmReport,
    units::{count, percent, rate},
};

use crate::explain::{OFFERED, blocks, capital, confidence, gain, names, os_name, shares};

/// All findings of a VM. Without `exits`, shares are those of events.
pub(super) fn findings(vm: &VmReport, exits: bool) -> Markup {
    let assessment = &vm.assessment;
    let mut given = Vec::new();
    html! {
        @if assessment.guest_os.os != Os::Unknown {
            p.dim { "Taken for " (os_name(assessment.guest_os.os)) ": " (assessment.guest_os.because) "." }
        }
        @for finding in &assessment.findings { (article(finding, exits, &mut given)) }
        @if !assessment.healthy.is_empty() {
            details.healthy open {
                summary { "Fine as it is" }
                ul { @for healthy in &assessment.healthy { (healthy_item(healthy, exits)) } }
            }
        }
    }
}

/// One finding. `given` has the remedies of earlier findings with the rule of the finding; they are not repeated.
fn article<'a>(
    finding: &'a Finding,
    exits: bool,
    given: &mut Vec<(&'a Advice, &'static str)>,
) -> Markup {
    html! {
        article.finding {
            h3 { (capital(finding.title)) span.dim { " " (finding.rule) } }
            p { strong { (shares(&finding.figures, exits)) (gain(finding)) } }
            table.evidence { tbody { @for row in &finding.evidence { (evidence(row)) } } }
            p { (marked_up(finding.cause)) }
            @if !finding.devices.is_empty() {
                p {
                    "These devices are on QEMU's command line: "
                    (finding.devices.iter().map(|device| safe(device)).collect::<Vec<_>>().join(", ")) "."
                }
            }
            @for advice in &finding.remedies {
                @if let Some((_, rule)) = given.iter().find(|(before, _)| *before == advice) {
                    p { (os_prefix(advice.os)) "See " (rule) "." }
                } @else {
                    (remedy(advice))
                    @let () = given.push((advice, finding.rule));
                }
            }
            p.dim { "Confidence: " (confidence(finding.confidence)) ". Sources: " (finding.sources.join("; ")) }
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
            (os_prefix(advice.os)) (marked_up(advice.action))
            @if advice.offered { " " (OFFERED) }
        }
        @for (title, block) in blocks(advice) { p.dim { (title) } pre { (block) } }
        @if let Some(inside) = advice.inside { p { (marked_up(inside)) } }
    }
}

fn os_prefix(os: Os) -> Markup {
    html! { @if os != Os::Unknown { strong { (os_name(os)) ": " } } }
}

/// Text in which the parts between backticks are code.
fn marked_up(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn healthy_item(healthy: &Healthy, exits: bool) -> Markup {
    html! { li { (healthy.title) " (" (shares(&healthy.figures, exits)) "): " (healthy.fine) "." } }
}
