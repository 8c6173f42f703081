//! What it takes the kernel to call a program at all: measured on one that does nothing, at a tracepoint that
//! this process can fire by itself and hardly anybody else does. The kernel's own benchmark of tracing takes
//! the same (tools/testing/selftests/bpf/benchs/bench_rename.c).

use aya::Ebpf;
use rustix::thread::{name, set_name};

use super::{
    ProbeError,
    load::Attachment,
    now_ns,
    plan::{Plan, Way},
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
pub(super) fn nothing(plan: &Plan) -> Attachment {
    let is_raw = matches!(plan.exit, Way::Raw(_));
    Attachment::new("task", "task_rename", if is_raw { "nothing" } else { "tp_nothing" })
}

pub(super) fn measure(nothing: &mut Attachment, ebpf: &mut Ebpf) -> Result<Call, ProbeError> {
    let without = shortest();
    nothing.attach(ebpf)?;
    let before = nothing.run(ebpf)?;
    let with = shortest();
    let after = nothing.run(ebpf)?;
    nothing.detach(ebpf)?;
    let time = (after.0 - before.0).as_nanos() as f64;
    let statistics_ns = time / ((after.1 - before.1) as f64).max(1.0);
    // With statistics on, what they take is part of the difference.
    let ns = with.saturating_sub(without) as f64 / BATCH as f64 - statistics_ns;
    Ok(Call { ns: ns.max(0.0), statistics_ns })
}

/// How long so many system calls take that fire the tracepoint, when nothing comes between them.
fn shortest() -> u64 {
    // The one that it has.
    let name = name().unwrap_or_default();
    let batch = || {
        let begun = now_ns();
        for _ in 0..BATCH {
            let _ = set_name(&name);
        }
        now_ns() - begun
    };
    (0..BATCHES).map(|_| batch()).min().unwrap_or_default()
}
