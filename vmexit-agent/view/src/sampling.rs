//! Notes on the part of the time and of the exits that a report was measured on.

use vmexit_core::{
    report::{Report, Total},
    timing::Timing,
    units::{percent, rate},
};

/// Reasons why figures are estimates or missing, separated by semicolons; `None` if everything was measured.
pub(super) fn remarks(report: &Report) -> Option<String> {
    let timed = match report.timing {
        Timing::All => None,
        Timing::OneIn(_) => Some(format!("timed: {}, sums of time are estimates", report.timing)),
        Timing::Varies => Some("timed: a varying share, sums of time are estimates".to_owned()),
        Timing::Off => Some("not timed".to_owned()),
    };
    let span = &report.span;
    let watched = (span.unwatched_seconds > 0.0).then(|| {
        format!("watched {:.2} of {:.2} s, rates are estimates", span.seconds, span.length())
    });
    let cost = report.sampling.map(|sampling| {
        let taken = sampling.percent().map_or_else(|| "nothing".to_owned(), percent);
        format!("took {taken} of the VMs' CPU time, budget {}", percent(sampling.budget_percent))
    });
    let early = span.interrupted.then(|| "ended early".to_owned());
    let remarks: Vec<String> = [early, watched, timed, cost].into_iter().flatten().collect();
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// The remarks in parentheses, with a leading space; empty without remarks.
pub(super) fn aside(report: &Report) -> String {
    remarks(report).map_or_else(String::new, |remarks| format!(" ({remarks})"))
}

/// Exits per second, with the standard error if the rate is an estimate.
pub(super) fn exits_per_second(total: &Total) -> String {
    let error = total.rate_error_percent.map(|error| format!(" ± {error:.1}%"));
    format!("{}/s{}", rate(total.per_second), error.unwrap_or_default())
}
