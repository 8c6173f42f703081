//! Figures of a row, as `--sort`, the live view's columns and its configuration file name them.

use vmexit_core::{choice::Choice, report::Stats};

/// A column of a table: a figure, or the identity of the row. Rows can be sorted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Label of the row: a VM, exit reason, port, register or vCPU.
    Label,
    /// Device or name of the labelled port, address or register.
    Name,
    /// Process or thread ID.
    Process,
    /// Number of vCPUs.
    Vcpus,
    /// Exits per second; events per second if KVM reports no exits.
    Rate,
    /// Number of exits, or its share in the VM's exits.
    Samples,
    /// Handled time, or its share in a core or in the VM's handled time.
    Time,
    /// Part of the handled time in userspace.
    User,
    /// Time in which the vCPU had halted, or its share in all time.
    Waiting,
    /// Main exit reason.
    Reason,
    /// Main detail.
    Detail,
    /// Shortest time.
    Min,
    /// Median time.
    P50,
    /// Mean time.
    Avg,
    /// Standard error of the mean, percent.
    Error,
    /// 99th percentile of the time.
    P99,
    /// Longest time.
    Max,
    /// Rates of the latest intervals, as a sparkline.
    Trend,
}

/// Names of the figures for `--sort`. They are also names of the live view's columns.
#[rustfmt::skip]
impl Choice for Figure {
    const CHOICES: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Time,    "time",    "Sum of the times of all exits"),
        (Self::Samples, "samples", "Number of exits"),
        (Self::Rate,    "rate",    "Exits per second"),
        (Self::User,    "user",    "Time in userspace"),
        (Self::Waiting, "waiting", "Time in which the vCPU had halted"),
        (Self::Min,     "min",     "Shortest time"),
        (Self::P50,     "p50",     "Median time"),
        (Self::Avg,     "avg",     "Mean time"),
        (Self::Error,   "error",   "Standard error of the mean"),
        (Self::P99,     "p99",     "99th percentile of the time"),
        (Self::Max,     "max",     "Longest time"),
    ];

    /// Field of the figure in JSON and CSV. `total_ns` is the time; waiting has no field of its own.
    fn alias(self) -> Option<&'static str> {
        Some(match self {
            Self::Rate => "per_second",
            Self::Time => "total_ns",
            Self::User => "userspace_ns",
            Self::Min => "min_ns",
            Self::P50 => "p50_ns",
            Self::Avg => "avg_ns",
            Self::Error => "avg_error_percent",
            Self::P99 => "p99_ns",
            Self::Max => "max_ns",
            _ => return None,
        })
    }
}

impl Figure {
    /// Value of the figure in a row of exits; `None` if it is unknown or the row has no such figure. `waits` says whether
    /// the vCPU waits in these exits.
    pub(crate) fn value(self, stats: &Stats, waits: bool) -> Option<f64> {
        let ns = |ns: u64| ns as f64;
        match self {
            Self::Rate => Some(stats.per_second),
            Self::Samples => Some(stats.samples as f64),
            Self::Time => (!waits).then_some(ns(stats.total_ns)),
            Self::Waiting => waits.then_some(ns(stats.total_ns)),
            Self::User => stats.userspace_ns.filter(|_| !waits).map(ns),
            Self::Min => stats.min_ns.map(ns),
            Self::P50 => stats.p50_ns.map(ns),
            Self::Avg => stats.avg_ns.map(ns),
            Self::Error => stats.avg_error_percent,
            Self::P99 => stats.p99_ns.map(ns),
            Self::Max => stats.max_ns.map(ns),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_name_accepts_fields_of_json_and_csv() {
        for (figure, name, _) in Figure::CHOICES {
            assert_eq!(Figure::from_name(name), Ok(*figure), "{name}");
            // The samples have one name everywhere.
            let has_alias = !matches!(figure, Figure::Samples | Figure::Waiting);
            assert_eq!(figure.alias().is_some(), has_alias, "{name}");
            if let Some(field) = figure.alias() {
                assert_eq!(Figure::from_name(field), Ok(*figure), "{field}");
            }
        }
        let error = Figure::from_name("stddev").unwrap_err();
        assert!(error.contains("time, samples") && !error.contains("_ns"), "{error}");
    }
}
