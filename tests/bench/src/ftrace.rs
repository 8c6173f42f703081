//! Mode `ftrace`: the kernel's own tracer writes the events into a ring buffer that nobody reads.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Of the group `kvm`: those that vmexit is on.
const EVENTS: [&str; 3] = ["kvm_entry", "kvm_pio", "kvm_exit"];

/// A trace instance with these events on. It is gone when this process is, even by SIGKILL.
pub(crate) struct Ftrace {
    instance: PathBuf,
    remover: Child,
    stdin: Option<ChildStdin>,
}

impl Ftrace {
    /// Makes the instance, and switches the events on. The oldest are overwritten when its buffer is
    /// full, whose size is the kernel's default.
    pub(crate) fn start() -> Result<Self> {
        let instance = Path::new(TRACEFS).join(format!("instances/bench-{}", std::process::id()));
        let missing = format!("{TRACEFS} has no place for instances: is tracefs mounted there?");
        ensure!(instance.parent().is_some_and(Path::is_dir), missing);
        // What removes it comes first. In a group of its own, so that ctrl-c does not end it.
        let mut remover = Command::new("sh");
        remover.args(["-c", "cat > /dev/null; rmdir \"$0\""]);
        remover.arg(&instance).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut remover = remover.spawn().context("sh can't be run")?;
        let stdin = remover.stdin.take();
        let ftrace = Self { instance, remover, stdin };
        fs::create_dir(&ftrace.instance).context("no trace instance can be made")?;
        ftrace.write("trace_options", "overwrite")?;
        for event in EVENTS {
            ftrace.write(&format!("events/kvm/{event}/enable"), "1")?;
        }
        Ok(ftrace)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.instance.join(file);
        fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))
    }

    /// Events written so far, those overwritten since included.
    pub(crate) fn counted(&self) -> Result<u64> {
        let mut sum = 0;
        for cpu in fs::read_dir(self.instance.join("per_cpu"))? {
            sum += written(&fs::read_to_string(cpu?.path().join("stats"))?);
        }
        Ok(sum)
    }
}

impl Drop for Ftrace {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It was waited for already, at worst.
        let _ = self.remover.wait();
    }
}

/// In a CPU's `stats`: the events in the buffer and those overwritten
/// (`tracing_stats_read`, kernel/trace/trace.c).
fn written(stats: &str) -> u64 {
    let counts = stats.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        ["entries", "overrun"].contains(&name).then(|| value.trim().parse::<u64>().ok())?
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ftrace_overwritten_events_are_counted() {
        let stats = "entries: 1200\noverrun: 34\ncommit overrun: 5\nbytes: 9\n\
                     oldest event ts:   167.1\nnow ts:   168.2\ndropped events: 6\nread events: 7\n";
        assert_eq!(written(stats), 1_234);
    }
}
