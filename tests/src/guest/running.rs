//! A bare guest that runs on this machine.
//!
//! Its files live in a temporary directory; the process ends, and the directory goes, when the
//! value is dropped. The dots on its serial port say how far it has come.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::{BareGuest, Qemu, Qmp};

/// How often files and the process are looked at while waiting.
const POLL: Duration = Duration::from_millis(2);

/// How long QEMU may take to be gone once it has closed its QMP connection.
const POWER_OFF: Duration = Duration::from_secs(2);

/// A QEMU process with a bare guest in it.
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

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory with the guest's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The QMP socket; it serves one client at a time.
    pub fn qmp_socket(&self) -> PathBuf {
        self.directory().join(Qemu::QMP)
    }

    /// A new QMP connection.
    pub fn qmp(&mut self) -> Result<Qmp> {
        let qmp = Qmp::connect(&self.qmp_socket());
        // A QEMU that has ended explains itself better than a missing socket does.
        if qmp.is_err() && self.child.try_wait()?.is_some() {
            bail!("{}", self.ended("answered on its QMP socket"));
        }
        qmp
    }

    /// Lets the vCPUs run: the first time after [`Qemu::paused`], or again after [`Self::pause`].
    pub fn resume(&mut self) -> Result<()> {
        let answer = self.qmp()?.execute("cont", json!({}));
        // A short guest may have powered off, QEMU included, before the answer is out.
        if answer.is_err() && self.wait_exit(POWER_OFF).is_ok() && self.dots() > 0 {
            return Ok(());
        }
        answer.map(drop)
    }

    /// Stops the vCPUs. All of them are out of the guest when this returns.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp()?.execute("stop", json!({})).map(drop)
    }

    /// Sends QEMU a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().context("run kill")?;
        ensure!(status.success(), "kill -s {name} {pid} failed");
        Ok(())
    }

    /// Complete rounds so far.
    pub fn dots(&self) -> u64 {
        self.printed(b'.')
    }

    /// HLTs that the CPU passed over, so far: see [`BareGuest::expected`].
    pub fn missed_hlts(&self) -> u64 {
        self.printed(b'-')
    }

    fn printed(&self, wanted: u8) -> u64 {
        // QEMU creates the file: before it has, nothing is printed.
        let serial = fs::read(self.directory().join(Qemu::SERIAL)).unwrap_or_default();
        serial.iter().filter(|&&byte| byte == wanted).count() as u64
    }

    /// Waits for this many complete rounds; returns how many there are by then.
    pub fn wait_dots(&mut self, dots: u64, timeout: Duration) -> Result<u64> {
        let deadline = Instant::now() + timeout;
        loop {
            // In this order: all dots of a QEMU that has ended are in the file.
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
        // Both fail only if the process is already gone, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
