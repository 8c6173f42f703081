//! What the agent itself takes.

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};
use vmexit_view::metrics::AgentUsage;

/// CPU time and memory until now; 0 what the kernel does not tell.
pub(super) fn usage() -> AgentUsage {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    AgentUsage {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident_bytes: pages.unwrap_or(0) * page_size() as u64,
    }
}
