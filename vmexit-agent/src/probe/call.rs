//! What it takes the kernel to call a program at all: measured on one that does nothing, at a tracepoint that
//! this process can fire by itself and hardly anybody else does. The kernel's own benchmark of tracing takes
//! the same (tools/testing/selftests/bpf/benchs/bench_rename.c).

use std::time::Duration;

use aya::Ebpf;
use rustix::thread::{name, set_name};

use super::{
    ProbeError,
    load::Attachment,
    now_ns,
    plan::{AttachPlan, ReadPath},
};

const BATCHES: usize = 10;
const BATCH: u64 = 200;

/// What the kernel takes to call a program that does nothing, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// Without statistics.
    pub ns: f64,
    /// What its statistics say of that program, if they are on: nothing but what they take themselves.
    pub statistics_ns: f64,
}

/// The program for the kind of tracepoint that exits are taken from.
pub(super) fn nothing(plan: &AttachPlan) -> Attachment {
    let is_raw = matches!(plan.exit, ReadPath::Raw(_));
    Attachment::new("task", "task_rename", if is_raw { "nothing" } else { "tp_nothing" })
}

pub(super) fn measure(nothing: &mut Attachment, ebpf: &mut Ebpf) -> Result<Call, ProbeError> {
    let before = shortest(nothing, ebpf)?;
    nothing.attach(ebpf)?;
    let with = shortest(nothing, ebpf)?;
    nothing.detach(ebpf)?;
    // Before and after, for the CPU may only now have come to its full speed.
    let without = before.took_ns.min(shortest(nothing, ebpf)?.took_ns);
    let statistics_ns = with.ran.as_nanos() as f64 / (with.runs as f64).max(1.0);
    // With statistics on, what they take is part of the difference.
    let ns = with.took_ns.saturating_sub(without) as f64 / BATCH as f64 - statistics_ns;
    Ok(Call { ns: ns.max(0.0), statistics_ns })
}

/// So many system calls that fire the tracepoint.
struct Batch {
    took_ns: u64,
    /// By the program's statistics.
    ran: Duration,
    runs: u64,
}

/// The shortest of some: the one in which nothing else came, neither between the calls nor, by an interrupt, in the
/// program.
fn shortest(nothing: &Attachment, ebpf: &Ebpf) -> Result<Batch, ProbeError> {
    // The one that it has.
    let name = name().unwrap_or_default();
    let batch = || -> Result<Batch, ProbeError> {
        let (ran, runs) = nothing.run(ebpf)?;
        let begun = now_ns();
        for _ in 0..BATCH {
            let _ = set_name(&name);
        }
        let took_ns = now_ns() - begun;
        let (ran_now, runs_now) = nothing.run(ebpf)?;
        Ok(Batch { took_ns, ran: ran_now - ran, runs: runs_now - runs })
    };
    let mut shortest = batch()?;
    for _ in 1..BATCHES {
        let next = batch()?;
        if next.took_ns < shortest.took_ns {
            shortest = next;
        }
    }
    Ok(shortest)
}
