//! Cost of calling an eBPF program, measured with an empty program on `task_rename`: this process can fire that
//! tracepoint, and others rarely do. The kernel's benchmark of tracing uses it too
//! (tools/testing/selftests/bpf/benchs/bench_rename.c).

use std::time::Duration;

use aya::Ebpf;
use rustix::thread::{name, set_name};

use super::{
    ProbeError,
    load::Attachment,
    now_ns,
    plan::{AttachPlan, ReadPath},
};

/// Batches of system calls per measurement; the fastest one counts.
const BATCH_COUNT: usize = 10;
/// System calls per batch.
const BATCH_CALLS: u64 = 200;

/// CPU time of a call of an empty program, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallCost {
    /// Time without the kernel's program statistics.
    pub ns: f64,
    /// Run time in the kernel's program statistics, which is their own overhead; 0 while they are off.
    pub statistics_ns: f64,
}

/// The empty program, on a tracepoint of the same kind as the plan's `kvm_exit`.
pub(super) fn empty_program(plan: &AttachPlan) -> Attachment {
    let is_raw = matches!(plan.exit, ReadPath::Raw(_));
    Attachment::new("task", "task_rename", if is_raw { "empty" } else { "tp_empty" })
}

/// Measures the cost of a call: the difference between batches with and without the program.
///
/// # Errors
/// The program can't be attached or detached, or its statistics can't be read.
pub(super) fn measure(empty: &mut Attachment, ebpf: &mut Ebpf) -> Result<CallCost, ProbeError> {
    let before = shortest_batch(empty, ebpf)?;
    empty.attach(ebpf)?;
    let with = shortest_batch(empty, ebpf)?;
    empty.detach(ebpf)?;
    // Measured again: the CPU may have raised its clock since the first time.
    let without = before.took_ns.min(shortest_batch(empty, ebpf)?.took_ns);
    let statistics_ns = with.ran.as_nanos() as f64 / (with.runs as f64).max(1.0);
    // While statistics are on, the difference includes their overhead.
    let ns = with.took_ns.saturating_sub(without) as f64 / BATCH_CALLS as f64 - statistics_ns;
    Ok(CallCost { ns: ns.max(0.0), statistics_ns })
}

/// A batch of system calls that fire the tracepoint.
struct Batch {
    took_ns: u64,
    /// Run time in the program's statistics.
    ran: Duration,
    /// Number of runs in the program's statistics.
    runs: u64,
}

/// The fastest batch, which is the least disturbed by interrupts and other processes.
fn shortest_batch(empty: &Attachment, ebpf: &Ebpf) -> Result<Batch, ProbeError> {
    // The thread keeps its name.
    let name = name().unwrap_or_default();
    let batch = || -> Result<Batch, ProbeError> {
        let before = empty.run_stats(ebpf)?;
        let begun = now_ns();
        for _ in 0..BATCH_CALLS {
            let _ = set_name(&name);
        }
        let took_ns = now_ns() - begun;
        let after = empty.run_stats(ebpf)?;
        Ok(Batch { took_ns, ran: after.time - before.time, runs: after.runs - before.runs })
    };
    let mut shortest = batch()?;
    for _ in 1..BATCH_COUNT {
        let next = batch()?;
        if next.took_ns < shortest.took_ns {
            shortest = next;
        }
    }
    Ok(shortest)
}
