//! What part of all that happened a report was measured on, in words.

use crate::{model::Report, probe::Timing};

/// What makes figures estimates, or leaves some out, in no whole sentences; nothing if all is measured.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let timed = match report.timing {
        Timing::All => None,
        Timing::OneIn(_) => Some(format!("timed: {}, sums of time are estimates", report.timing)),
        Timing::Varies => Some("timed: a varying share, sums of time are estimates".to_owned()),
        Timing::Off => Some("not timed".to_owned()),
    };
    let span = &report.span;
    let watched = (span.unwatched_seconds > 0.0).then(|| {
        let all = span.seconds + span.unwatched_seconds;
        format!("watched {:.2} of {all:.2} s, rates are estimates", span.seconds)
    });
    let early = span.interrupted.then(|| "ended early".to_owned());
    early.into_iter().chain(watched).chain(timed).collect()
}
