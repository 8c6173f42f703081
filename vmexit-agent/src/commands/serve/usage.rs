//! CPU time and memory of the agent itself.

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};
use vmexit_view::metrics::AgentUsage;

/// CPU time since the start and current memory; 0 for values that can't be read.
pub(super) fn agent() -> AgentUsage {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    AgentUsage {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident_bytes: pages.unwrap_or(0) * page_size() as u64,
    }
}
