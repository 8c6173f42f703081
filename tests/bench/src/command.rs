//! Mode `command`: another program that watches exits. The measurement starts once the program is attached.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// Longest wait for a program to attach, even in an emulator.
const PATIENCE: Duration = Duration::from_secs(300);

/// Time between two checks whether the program is attached. It is long because the program may share its only CPU.
const POLL: Duration = Duration::from_millis(200);

/// Link target of the file descriptor of a perf event (`perf_event_open`, kernel/events/core.c).
const PERF_EVENT: &str = "anon_inode:[perf_event]";

/// A running program. Dropping the value sends SIGINT and waits for its end.
pub(crate) struct Watcher {
    child: Child,
    name: String,
}

impl Watcher {
    /// Starts a program and waits until it watches. It watches when it holds at least two links or perf events, has
    /// made no new one since the last check, and its threads are idle.
    ///
    /// # Errors
    ///
    /// When the program can't be started, ends, or has attached nothing in time.
    pub(crate) async fn start(command: &[OsString]) -> Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        let name = program.to_string_lossy().into_owned();
        // Its output is not part of the measurement.
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} can't be run"))?;
        let mut watcher = Self { child, name };
        watcher.attached().await?;
        Ok(watcher)
    }

    async fn attached(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = (0, 0);
        loop {
            let (held, cpu_ns) = (self.held(), self.cpu_ns().unwrap_or(0));
            let quiet = u128::from(cpu_ns.saturating_sub(before.1)) < (POLL / 4).as_nanos();
            if held >= 2 && held == before.0 && quiet {
                return Ok(());
            }
            before = (held, cpu_ns);
            self.ensure_running()?;
            ensure!(Instant::now() < deadline, "{} attached nothing in {PATIENCE:?}", self.name);
            sleep(POLL).await;
        }
    }

    /// Number of eBPF links (`Documentation/filesystems/proc.rst`, fdinfo) and perf events that the program holds.
    fn held(&self) -> usize {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        fds.filter(|fd| {
            let event = || fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(PERF_EVENT));
            let info = fs::read_to_string(process.join("fdinfo").join(fd.file_name()));
            info.is_ok_and(|text| text.contains("link_type")) || event()
        })
        .count()
    }

    /// CPU time of its threads, nanoseconds (`Documentation/scheduler/sched-stats.rst`).
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let ran = tasks.flatten().map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        ran.sum()
    }

    /// Checks that the program is running.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended too early, with {status}", self.name);
        }
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Both fail only if the program has ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn command_that_watches_nothing_is_not_measured() {
        let error = Watcher::start(&["true".into()]).await.err().unwrap();
        assert!(error.to_string().contains("ended too early"), "{error}");
        assert!(Watcher::start(&["/no/such/program".into()]).await.is_err());
    }
}
