//! The emulated machine: starts the emulator, passes the output of the serial ports to the caller, and judges the
//! end of the run.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    LabRun, Stream,
    error::{DuringIo, LabError},
    host::tool,
    verdict::{MachineEnd, is_over, judge, tail},
};

/// Longest time from the verdict to the end of the emulator.
const SWITCH_OFF: Duration = Duration::from_secs(10);

/// Kernel parameters of all labs: a serial console at full speed, a panic on an oops, a reboot, which ends the
/// emulator, on a panic, and no rate limit for the lab's records in the kernel's log. `no_timer_check` is for an
/// emulator that the host runs late, which the kernel would take for a machine without a timer
/// (arch/x86/kernel/apic/io_apic.c, `check_timer`).
pub(super) const KERNEL_ARGUMENTS: &str =
    "console=ttyS0,115200 quiet panic=-1 oops=panic printk.devkmsg=on rdinit=/init no_timer_check";

/// Kernel, initramfs, memory and files of the machine.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub(super) vmlinuz: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) memory_mb: u32,
    /// Output files of the first three serial ports: console, stdout, stderr.
    pub(super) ports: [PathBuf; 3],
    /// Directory of the emulator's files.
    pub(super) dir: &'a Path,
}

impl<'a> Guest<'a> {
    /// A guest with all its files in one directory.
    pub(super) fn new(
        vmlinuz: &'a Path,
        initramfs: &'a Path,
        memory_mb: u32,
        dir: &'a Path,
    ) -> Self {
        let ports = ["console", "stdout", "stderr"].map(|name| dir.join(name));
        Self { vmlinuz, initramfs, memory_mb, ports, dir }
    }
}

/// An emulator that is ready to be started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) command: Command,
    /// File that is not needed any more once the kernel prints to the console.
    pub(super) boots_from: PathBuf,
    /// Whether the machine powered off in order, from exit status and standard error.
    pub(super) switched_off: fn(ExitStatus, &str) -> bool,
    /// Standard error without the usual messages.
    pub(super) complaints: fn(&str) -> String,
}

/// A running emulator. It ends when the value is dropped.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // Both fail only if the emulator has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Output file of a serial port, and the bytes read from it so far.
struct Port {
    stream: Stream,
    path: PathBuf,
    file: Option<File>,
    bytes: Vec<u8>,
}

impl Port {
    fn new(stream: Stream, path: PathBuf) -> Self {
        Self { stream, path, file: None, bytes: Vec::new() }
    }

    /// Reads new bytes and passes them to `on`. Returns whether there were any.
    fn read(&mut self, on: &mut dyn FnMut(Stream, &[u8])) -> io::Result<bool> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let known = self.bytes.len();
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.bytes)?;
        }
        let new = &self.bytes[known..];
        if !new.is_empty() {
            on(self.stream, new);
        }
        Ok(!new.is_empty())
    }
}

impl Program {
    /// Starts the emulator, follows the serial ports until it ends, and judges the end.
    pub(super) fn run(
        self,
        guest: Guest<'_>,
        token: &str,
        timeout: Duration,
        on: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<LabRun, LabError> {
        let begin = Instant::now();
        let [console, stdout, stderr] = guest.ports;
        let mut ports = [
            Port::new(Stream::Console, console),
            Port::new(Stream::Stdout, stdout),
            Port::new(Stream::Stderr, stderr),
        ];
        let said = guest.dir.join("said");
        let mut emulator = self.start(&said)?;
        let mut deadline = begin + timeout;
        let (mut loaded, mut over) = (false, false);
        let ended = loop {
            // In this order, so that all output before the end is read.
            let status = emulator.0.try_wait().during(|| format!("wait for {}", self.name))?;
            for port in &mut ports {
                let news = port.read(on).during(|| format!("read {}", port.path.display()))?;
                if news && !loaded {
                    // Removed early, because nothing removes it if this process is killed.
                    loaded = fs::remove_file(&self.boots_from).is_ok();
                }
                if news && !over && port.stream == Stream::Console {
                    over = is_over(&text(&port.bytes), token);
                    if over {
                        deadline = deadline.min(Instant::now() + SWITCH_OFF);
                    }
                }
            }
            if status.is_some() || Instant::now() >= deadline {
                break status;
            }
            thread::sleep(Duration::from_millis(20));
        };
        drop(emulator);
        let end = match ended {
            Some(status) => {
                let said = fs::read(&said).during(|| format!("read {}", said.display()))?;
                self.end(status, &text(&said))
            }
            None => MachineEnd::Killed { limit: timeout },
        };

        let [console, stdout, stderr] = ports.map(|port| port.bytes);
        let console = text(&console);
        let scene = || {
            tail("console", console.as_bytes())
                + &tail("stdout", &stdout)
                + &tail("stderr", &stderr)
        };
        let code = judge(&console, token, end, scene)?;
        Ok(LabRun { code, stdout, stderr, console, wall: begin.elapsed() })
    }

    fn start(&self, said: &Path) -> Result<Emulator, LabError> {
        // Kills the emulator also when this thread ends without a drop (by a signal, an abort). The kernel ties this
        // to the thread that starts it, which is the thread that waits for it.
        let mut command = Command::new(tool("setpriv", "util-linux")?);
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let stderr = File::create(said).during(|| format!("create {}", said.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().during(|| format!("start {}", self.name))?;
        Ok(Emulator(child))
    }

    fn end(&self, status: ExitStatus, said: &str) -> MachineEnd {
        if (self.switched_off)(status, said) {
            MachineEnd::SwitchedOff
        } else {
            MachineEnd::Died { emulator: self.name, status, stderr: (self.complaints)(said) }
        }
    }
}

/// Text without carriage returns.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}
