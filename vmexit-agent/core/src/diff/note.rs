//! Differences of two recordings' circumstances, and which tables can be compared in spite of them.

use std::fmt::Display;

use crate::{
    event::Event,
    report::{ExitReporting, Report},
    timing::Timing,
};

/// The differences as sentences, and the events whose tables can be compared.
pub(super) fn differences(before: &Report, after: &Report) -> (Vec<String>, Vec<Event>) {
    let mut notes = Vec::new();
    let mut compare = |subject: &str, before: &dyn Display, after: &dyn Display| {
        let (before, after) = (before.to_string(), after.to_string());
        if before != after {
            notes.push(format!("{subject}: {before} before, {after} after."));
        }
    };
    let (old, new) = (&before.host, &after.host);
    compare("The hosts differ", &old.name, &new.name);
    compare("The kernels differ", &old.kernel, &new.kernel);
    compare("The numbers of CPUs differ", &old.cpus, &new.cpus);
    let vendor = |report: &Report| {
        report.host.vendor.map_or("neither Intel nor AMD", |vendor| vendor.title())
    };
    compare("The CPUs differ", &vendor(before), &vendor(after));
    let timed = |report: &Report| match (report.source, report.timing) {
        (ExitReporting::Silent, _) => "none (KVM reported no exits)".to_owned(),
        (ExitReporting::Nothing, _) => "none (KVM reported no events)".to_owned(),
        (ExitReporting::Exits, Timing::Off) => "none (timing off)".to_owned(),
        (ExitReporting::Exits, Timing::All) => "all".to_owned(),
        (ExitReporting::Exits, Timing::Varies) => "a varying share".to_owned(),
        (ExitReporting::Exits, timing) => timing.to_string(),
    };
    compare("Timed exits differ", &timed(before), &timed(after));
    let watched = |report: &Report| {
        let span = &report.span;
        let share = span.seconds / span.length().max(f64::MIN_POSITIVE);
        format!("{:.0}%", 100.0 * share)
    };
    compare("Time observed differs", &watched(before), &watched(after));
    let lost = |report: &Report| {
        let lost = &report.accounting.lost;
        let missed: u64 = report.accounting.missed.values().sum();
        lost.no_entry + lost.vcpu_limit + lost.vcpu_table_full + lost.unreadable + missed
    };
    compare("Lost exits and events", &lost(before), &lost(after));
    if before.source == ExitReporting::Silent && after.source == ExitReporting::Silent {
        notes.push(
            "KVM reported no exits in either recording: its other events are compared.".into(),
        );
    }
    // Exit codes and fault codes mean different things on each vendor's CPUs.
    let same_vendor = old.vendor == new.vendor;
    if !same_vendor {
        notes.push("Exit reasons and page faults are not compared: the CPU vendors differ.".into());
    }
    let comparable = |event: &Event| match event {
        Event::Vmexit | Event::Fault => same_vendor,
        event => before.events.contains(event) && after.events.contains(event),
    };
    let one_sided: Vec<String> =
        before.events.symmetric_difference(&after.events).map(ToString::to_string).collect();
    if !one_sided.is_empty() {
        notes.push(format!("Captured in one recording only: {}.", one_sided.join(", ")));
    }
    (notes, Event::ALL.iter().copied().filter(comparable).collect())
}
