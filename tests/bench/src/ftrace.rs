//! Mode `ftrace`: the kernel's tracer writes the events to a ring buffer without a reader.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Events of the group `kvm` to trace: those of the agent.
const EVENTS: [&str; 3] = ["kvm_entry", "kvm_pio", "kvm_exit"];

/// A trace instance with these events enabled. It is removed when this process ends, even by SIGKILL.
pub(crate) struct Ftrace {
    instance: PathBuf,
    remover: Child,
    stdin: Option<ChildStdin>,
}

impl Ftrace {
    /// Creates the instance and enables the events. A full buffer overwrites its oldest events. Its size is the
    /// kernel's default.
    ///
    /// # Errors
    ///
    /// When tracefs is not mounted or the instance can't be created.
    pub(crate) fn start() -> Result<Self> {
        let instance = Path::new(TRACEFS).join(format!("instances/bench-{}", std::process::id()));
        let missing = format!("{TRACEFS} has no place for instances: is tracefs mounted there?");
        ensure!(instance.parent().is_some_and(Path::is_dir), missing);
        // The process that removes the instance starts first. It has its own process group, so that ctrl-c does not
        // end it.
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

    /// Number of events so far, including those overwritten.
    ///
    /// # Errors
    ///
    /// When the statistics can't be read.
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
        // This fails only if the process was waited for already.
        let _ = self.remover.wait();
    }
}

/// Number of events in a CPU's `stats`: those in the buffer and those overwritten (`tracing_stats_read`,
/// kernel/trace/trace.c).
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
