//! The cost of measuring, which `--budget` limits.

use serde::{Deserialize, Serialize, Serializer};

/// CPU time spent on measuring in an interval, and the budget. The times of consecutive intervals
/// add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SamplingCost {
    /// Budget, percent of the VMs' CPU time.
    pub budget_percent: f64,
    /// CPU time of the kernel side, nanoseconds: the calibrated cost of an exit times the number of
    /// exits.
    pub kernel_ns: u64,
    /// CPU time of the agent, nanoseconds, measured.
    pub agent_ns: u64,
    /// CPU time of the VMs' processes, nanoseconds, measured.
    pub vms_ns: u64,
}

impl SamplingCost {
    /// Sum of two consecutive intervals' costs, as far as they are known.
    pub fn sum(one: Option<Self>, next: Option<Self>) -> Option<Self> {
        match (one, next) {
            (Some(one), Some(next)) => Some(one.and(next)),
            (one, next) => one.or(next),
        }
    }

    fn and(self, next: Self) -> Self {
        Self {
            budget_percent: next.budget_percent,
            kernel_ns: self.kernel_ns.saturating_add(next.kernel_ns),
            agent_ns: self.agent_ns.saturating_add(next.agent_ns),
            vms_ns: self.vms_ns.saturating_add(next.vms_ns),
        }
    }

    /// Cost as a share of the VMs' CPU time, percent; `None` if they used none.
    pub fn percent(&self) -> Option<f64> {
        let spent = self.kernel_ns.saturating_add(self.agent_ns) as f64;
        (self.vms_ns > 0).then(|| 100.0 * spent / self.vms_ns as f64)
    }
}

/// Serializes the cost for a report: with [`SamplingCost::percent`] as `cost_percent`.
pub(crate) fn with_percent<S: Serializer>(
    cost: &Option<SamplingCost>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct WithPercent {
        budget_percent: f64,
        cost_percent: Option<f64>,
        kernel_ns: u64,
        agent_ns: u64,
        vms_ns: u64,
    }
    let with_percent = cost.as_ref().map(|cost| WithPercent {
        budget_percent: cost.budget_percent,
        cost_percent: cost.percent(),
        kernel_ns: cost.kernel_ns,
        agent_ns: cost.agent_ns,
        vms_ns: cost.vms_ns,
    });
    with_percent.serialize(serializer)
}
