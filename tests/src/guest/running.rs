//! A bare guest that runs on this machine.
//!
//! Its files are in a temporary directory. Dropping the value ends QEMU and removes the directory. The dots on its
//! serial port count its rounds.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::{BareGuest, Qemu, Qmp};

/// Time between two checks of files and process while waiting.
const POLL: Duration = Duration::from_millis(2);

/// Longest time from the end of a QMP connection to the end of QEMU.
const POWER_OFF: Duration = Duration::from_secs(2);

/// A QEMU process with a bare guest.
#[derive(Debug)]
pub struct RunningGuest {
    name: String,
    child: Child,
    directory: TempDir,
}

impl RunningGuest {
    pub(super) fn start(qemu: &Qemu, guest: &BareGuest) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vmexit-guest-").tempdir()?;
        let path = directory.path();
        fs::write(path.join(Qemu::ROM), guest.rom()).context("cannot write the guest's ROM")?;
        if let Some(config) = qemu.config(path) {
            fs::write(path.join(Qemu::CONFIG), config).context("cannot write QEMU's options")?;
        }
        let log = File::create(path.join(Qemu::LOG)).context("cannot create QEMU's log")?;
        let child = qemu
            .command(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", qemu.program().display()))?;
        Ok(Self { name: qemu.name().to_owned(), child, directory })
    }

    /// Process ID of QEMU.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Directory of the guest's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Path of the QMP socket. It serves one client at a time.
    pub fn qmp_socket(&self) -> PathBuf {
        self.directory().join(Qemu::QMP)
    }

    /// Opens a QMP connection.
    ///
    /// # Errors
    ///
    /// When QEMU has ended, or does not answer in time.
    pub fn qmp(&mut self) -> Result<Qmp> {
        let qmp = Qmp::connect(&self.qmp_socket());
        // If QEMU has ended, its messages are a better explanation than a missing socket.
        if qmp.is_err() && self.child.try_wait()?.is_some() {
            bail!("{}", self.ended("answered on its QMP socket"));
        }
        qmp
    }

    /// Lets the vCPUs run, after [`Qemu::paused`] or [`Self::pause`].
    ///
    /// # Errors
    ///
    /// When QEMU does not answer, unless the guest has already run to its end.
    pub fn resume(&mut self) -> Result<()> {
        let answer = self.qmp()?.execute("cont", json!({}));
        // A short guest may power off, and QEMU end, before QEMU answers.
        if answer.is_err() && self.wait_exit(POWER_OFF).is_ok() && self.dots() > 0 {
            return Ok(());
        }
        answer.map(drop)
    }

    /// Stops the vCPUs. None runs in the guest any more when this returns.
    ///
    /// # Errors
    ///
    /// When QEMU does not answer.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp()?.execute("stop", json!({})).map(drop)
    }

    /// Sends QEMU a signal by name, such as `STOP`.
    ///
    /// # Errors
    ///
    /// When `kill` fails.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().context("run kill")?;
        ensure!(status.success(), "kill -s {name} {pid} failed");
        Ok(())
    }

    /// Number of complete rounds so far.
    pub fn dots(&self) -> u64 {
        self.printed(b'.')
    }

    /// Number of missed HLTs so far: see [`BareGuest::expected`].
    pub fn missed_hlts(&self) -> u64 {
        self.printed(b'-')
    }

    fn printed(&self, wanted: u8) -> u64 {
        // Until QEMU creates the file, nothing is printed.
        let serial = fs::read(self.directory().join(Qemu::SERIAL)).unwrap_or_default();
        serial.iter().filter(|&&byte| byte == wanted).count() as u64
    }

    /// Waits for so many complete rounds, and returns how many there are then.
    ///
    /// # Errors
    ///
    /// When QEMU ends before, or the time runs out.
    pub fn wait_dots(&mut self, dots: u64, timeout: Duration) -> Result<u64> {
        let deadline = Instant::now() + timeout;
        loop {
            // In this order: once QEMU has ended, all its dots are in the file.
            let ended = self.child.try_wait()?.is_some();
            let seen = self.dots();
            if seen >= dots {
                return Ok(seen);
            }
            if ended {
                bail!("{}", self.ended(&format!("printed {dots} dots (it printed {seen})")));
            }
            if Instant::now() >= deadline {
                bail!("guest {} printed {seen} of {dots} dots in {timeout:?}", self.name);
            }
            sleep(POLL);
        }
    }

    /// Waits until QEMU ends by itself, as it does after [`super::AtEnd::PowerOff`].
    ///
    /// # Errors
    ///
    /// When the time runs out.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("guest {} is still running after {timeout:?}", self.name);
            }
            sleep(POLL);
        }
    }

    /// QEMU's messages so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory().join(Qemu::LOG)).unwrap_or_default()
    }

    fn ended(&self, before: &str) -> String {
        format!("QEMU of guest {} ended before it {before}; it said:\n{}", self.name, self.log())
    }
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
