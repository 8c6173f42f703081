//! The emulated machine: a program that emulates it and a token come in; what arrives on its serial
//! ports goes to the caller as it comes, and is judged when the machine has ended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{DuringIo, LabError};
use super::host::tool;
use super::verdict::{MachineEnd, is_over, judge, tail};
use super::{LabRun, Stream};

/// How long a machine may take to switch off once all is said.
const SWITCH_OFF: Duration = Duration::from_secs(10);

/// Console for the kernel, at full speed where an emulator has speeds; an oops is the end, and a reboot
/// ends the emulator; records of the lab's own are never dropped for coming too fast; and a machine that
/// had to wait for its turn is not taken for one without a timer (arch/x86/kernel/apic/io_apic.c, `check_timer`).
pub(super) const KERNEL_ARGUMENTS: &str =
    "console=ttyS0,115200 quiet panic=-1 oops=panic printk.devkmsg=on rdinit=/init no_timer_check";

/// What to boot, and on what.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub(super) vmlinuz: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) memory_mb: u32,
    /// Files for the first three serial ports: console, stdout, stderr.
    pub(super) ports: [PathBuf; 3],
    /// For the emulator's own files.
    pub(super) dir: &'a Path,
}

impl<'a> Guest<'a> {
    /// A guest whose files are all in one directory.
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

/// An emulator with a guest, to be started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) command: Command,
    /// The file that is in the machine's memory as soon as its kernel says a word.
    pub(super) boots_from: PathBuf,
    /// Whether it ended in order, by its exit status and what it said.
    pub(super) switched_off: fn(ExitStatus, &str) -> bool,
    /// What it said without what it always says.
    pub(super) complaints: fn(&str) -> String,
}

/// An emulator that does not outlive its owner.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that the emulator appends to, and what has been read of it.
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

    /// Reads what is new and hands it on; says whether there was any.
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
    /// Starts it, follows the guest's serial ports until the end, and judges that.
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
            // In this order, so that nothing written before the end is missed.
            let status = emulator.0.try_wait().during(|| format!("wait for {}", self.name))?;
            for port in &mut ports {
                let news = port.read(on).during(|| format!("read {}", port.path.display()))?;
                if news && !loaded {
                    // If this process is killed, nobody else removes it.
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
        // Killed, too, when this thread ends without a Drop (a signal, an abort). The kernel ties that
        // to the thread that started it, which is the one that waits for it.
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

/// Text with plain line ends.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}
