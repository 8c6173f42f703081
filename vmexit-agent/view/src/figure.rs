//! Figures of a row: one vocabulary for `--sort`, the live view's columns, the configuration file and CSV.

use vmexit_core::{choice::Choice, report::Stats};

/// What a column shows of a row, and what rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// What the row is of: a VM, exit reason, port, register, vCPU.
    What,
    /// The name of that, or its device.
    Name,
    /// Process or thread id.
    Process,
    /// Number of vCPUs.
    Vcpus,
    /// Exits per second; events where there are no exits.
    Rate,
    /// Number of exits, or its share.
    Samples,
    /// Handled time, or its share: of a core, or of the VM's.
    Time,
    /// The part of it in userspace.
    User,
    /// Time in which vCPUs had halted, or its share.
    Waiting,
    /// The leading exit reason.
    Reason,
    /// The leading detail.
    Detail,
    /// Shortest time.
    Min,
    /// Median.
    P50,
    /// Mean.
    Avg,
    /// Standard error of the mean.
    Error,
    /// 99th percentile.
    P99,
    /// Longest time.
    Max,
    /// Rates of the latest intervals.
    Trend,
}

/// Names of the figures that rows can be ordered by. They are those of the live view's columns.
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
        self.field().filter(|field| self != Self::Waiting && *field != self.name())
    }
}

impl Figure {
    /// Name of the figure in JSON and CSV; `None` for what is no figure of a row of exits.
    pub fn field(self) -> Option<&'static str> {
        Some(match self {
            Self::Rate => "per_second",
            Self::Samples => "samples",
            Self::Time | Self::Waiting => "total_ns",
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

    /// The value of a row of exits, `waits` of one whose time is waiting; `None` where it is unknown or has no meaning.
    pub(crate) fn of(self, stats: &Stats, waits: bool) -> Option<f64> {
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
            let field = figure.field().unwrap();
            let named = if field == "total_ns" { Figure::Time } else { *figure };
            assert_eq!(Figure::from_name(field), Ok(named), "{field}");
        }
        let error = Figure::from_name("stddev").unwrap_err();
        assert!(error.contains("time, samples") && !error.contains("_ns"), "{error}");
    }
}
