//! Mode `command`: another program that watches exits, known to be attached before it is measured.

use std::{
    ffi::OsString,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// Longer than any agent needs, even in an emulator.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks at whether it is attached: rare, for it may have but this CPU to start on.
const POLL: Duration = Duration::from_millis(200);

/// A running program; it gets SIGINT when this is dropped, and is waited for.
pub(crate) struct Watcher {
    child: Child,
    name: String,
}

impl Watcher {
    /// Starts it and waits until it has attached its programs: at least two links, and no new one since
    /// the last look; or just so long, for a program that has none.
    pub(crate) async fn start(command: &[OsString], ready_after: Option<Duration>) -> Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        let name = program.to_string_lossy().into_owned();
        // What it says is not what is measured.
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} can't be run"))?;
        let mut watcher = Self { child, name };
        match ready_after {
            Some(time) => sleep(time).await,
            None => watcher.attached().await?,
        }
        watcher.ensure_running()?;
        Ok(watcher)
    }

    async fn attached(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = 0;
        loop {
            let links = self.links();
            if links >= 2 && links == before {
                return Ok(());
            }
            before = links;
            self.ensure_running()?;
            ensure!(Instant::now() < deadline, "{} attached nothing in {PATIENCE:?}", self.name);
            sleep(POLL).await;
        }
    }

    /// eBPF links that it holds (`Documentation/filesystems/proc.rst`, fdinfo).
    fn links(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fdinfo", self.child.id())).into_iter().flatten();
        fds.flatten()
            .filter(|fd| fs::read_to_string(fd.path()).is_ok_and(|text| text.contains("link_type")))
            .count()
    }

    /// Nanoseconds for which its threads have run, on any CPU (`Documentation/scheduler/sched-stats.rst`).
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let ran = tasks.flatten().map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        ran.sum()
    }

    /// An error if it has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended too early, with {status}", self.name);
        }
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}
