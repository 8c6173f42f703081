//! What two recordings don't have in common, and what of them can be compared all the same.

use std::fmt::Display;

use crate::{
    event::Event,
    report::{ExitReporting, Report},
    timing::Timing,
};

/// The differences as sentences, and the events whose tables can be compared.
pub(super) fn differences(before: &Report, after: &Report) -> (Vec<String>, Vec<Event>) {
    let mut notes = Vec::new();
    let mut differ = |what: &str, before: &dyn Display, after: &dyn Display| {
        let (before, after) = (before.to_string(), after.to_string());
        if before != after {
            notes.push(format!("{what}: {before} before, {after} after."));
        }
    };
    let (old, new) = (&before.host, &after.host);
    differ("The hosts differ", &old.name, &new.name);
    differ("The kernels differ", &old.kernel, &new.kernel);
    differ("The numbers of CPUs differ", &old.cpus, &new.cpus);
    let vendor = |report: &Report| {
        report.host.vendor.map_or("neither Intel nor AMD", |vendor| vendor.title())
    };
    differ("The CPUs differ", &vendor(before), &vendor(after));
    let timed = |report: &Report| match (report.source, report.timing) {
        (ExitReporting::Silent, _) => "not known, for KVM reported no exits".to_owned(),
        (ExitReporting::Nothing, _) => "not known, for KVM reported nothing".to_owned(),
        (ExitReporting::Exits, Timing::Off) => "not measured".to_owned(),
        (ExitReporting::Exits, Timing::All) => "those of all exits".to_owned(),
        (ExitReporting::Exits, Timing::Varies) => {
            "those of a varying share of the exits".to_owned()
        }
        (ExitReporting::Exits, timing) => format!("those of {timing} of the exits"),
    };
    differ("Times are", &timed(before), &timed(after));
    let watched = |report: &Report| {
        let span = &report.span;
        let share = span.seconds / span.length().max(f64::MIN_POSITIVE);
        format!("{:.0}% of the time", 100.0 * share)
    };
    differ("Watched were", &watched(before), &watched(after));
    let lost = |report: &Report| {
        let lost = &report.accounting.lost;
        let missed: u64 = report.accounting.missed.values().sum();
        lost.no_entry + lost.vcpu_limit + lost.vcpu_table_full + lost.unreadable + missed
    };
    differ("Exits or events that were lost", &lost(before), &lost(after));
    if before.source == ExitReporting::Silent && after.source == ExitReporting::Silent {
        notes.push("KVM reported no exits in either: compared are its other events.".into());
    }
    // The same number is another reason, or another fault, to the other vendor.
    let same_vendor = old.vendor == new.vendor;
    if !same_vendor {
        notes.push("Exit reasons and page faults are not compared.".into());
    }
    let comparable = |event: &Event| match event {
        Event::Vmexit | Event::Fault => same_vendor,
        event => before.events.contains(event) && after.events.contains(event),
    };
    let one_sided: Vec<String> =
        before.events.symmetric_difference(&after.events).map(ToString::to_string).collect();
    if !one_sided.is_empty() {
        notes.push(format!("Captured in one of them only: {}.", one_sided.join(", ")));
    }
    (notes, Event::ALL.iter().copied().filter(comparable).collect())
}
