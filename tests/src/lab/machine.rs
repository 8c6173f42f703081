//! The emulated machine: a kernel, an initramfs and a token come in; what arrives on its serial ports
//! goes to the caller as it comes, and is judged when the machine has ended. One vCPU and one emulator
//! thread always: with more, switching a tracepoint on while a vCPU runs can crash the lab's kernel.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{DuringIo, LabError};
use super::host::{qemu, tool};
use super::verdict::{End, is_over, judge, tail};
use super::{LabRun, Stream};

/// How long a machine may take to switch off once all is said.
const SWITCH_OFF: Duration = Duration::from_secs(10);

/// Console for the kernel; an oops is the end, and a reboot ends QEMU; records of the lab's own are
/// never dropped for coming too fast.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet panic=-1 oops=panic printk.devkmsg=on rdinit=/init";

/// What to boot.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) vmlinuz: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) memory_mb: u32,
    pub(super) timeout: Duration,
    pub(super) token: &'a str,
    /// For the serial ports' files.
    pub(super) dir: &'a Path,
}

/// A QEMU process that does not outlive its owner.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that QEMU appends to, and what has been read of it.
struct Port {
    stream: Stream,
    path: PathBuf,
    file: Option<File>,
    bytes: Vec<u8>,
}

impl Port {
    fn new(dir: &Path, stream: Stream) -> Self {
        let path = dir.join(format!("{stream:?}").to_lowercase());
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

impl Boot<'_> {
    /// Boots, follows the serial ports until the end, and judges it.
    pub(super) fn run(&self, on: &mut dyn FnMut(Stream, &[u8])) -> Result<LabRun, LabError> {
        let begin = Instant::now();
        let mut ports = [Stream::Console, Stream::Stdout, Stream::Stderr]
            .map(|stream| Port::new(self.dir, stream));
        let said = self.dir.join("qemu");
        let mut qemu = self.start(&ports, &said)?;
        let mut deadline = begin + self.timeout;
        let (mut loaded, mut over) = (false, false);
        let ended = loop {
            // In this order, so that nothing written before the end is missed.
            let status = qemu.0.try_wait().during(|| "wait for QEMU".to_owned())?;
            for port in &mut ports {
                let news = port.read(on).during(|| format!("read {}", port.path.display()))?;
                if news && !loaded {
                    // It is in the machine's memory now. If this process is killed, nobody else removes it.
                    loaded = fs::remove_file(self.initramfs).is_ok();
                }
                if news && !over && port.stream == Stream::Console {
                    over = is_over(&text(&port.bytes), self.token);
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
        drop(qemu);
        let end = match ended {
            Some(status) => {
                let stderr = fs::read(&said).during(|| format!("read {}", said.display()))?;
                End::Exited { status, stderr: complaints(&stderr) }
            }
            None => End::Killed { limit: self.timeout },
        };

        let [console, stdout, stderr] = ports.map(|port| port.bytes);
        let console = text(&console);
        let scene = || {
            tail("console", console.as_bytes())
                + &tail("stdout", &stdout)
                + &tail("stderr", &stderr)
        };
        let code = judge(&console, self.token, end, scene)?;
        Ok(LabRun { code, stdout, stderr, console, wall: begin.elapsed() })
    }

    fn start(&self, ports: &[Port], said: &Path) -> Result<Qemu, LabError> {
        // Killed, too, when this thread ends without a Drop (a signal, an abort). The kernel ties that
        // to the thread that started QEMU, which is the one that waits for it below.
        let mut command = Command::new(tool("setpriv", "util-linux")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(qemu()?);
        command.args(["-accel", "tcg,thread=single", "-cpu", "EPYC", "-smp", "1"]);
        command.arg("-m").arg(self.memory_mb.to_string());
        command.args(["-nodefaults", "-no-user-config", "-vga", "none", "-display", "none"]);
        command.args(["-nic", "none", "-no-reboot"]);
        for port in ports {
            command.arg("-serial").arg(format!("file:{}", port.path.display()));
        }
        command.arg("-kernel").arg(self.vmlinuz).arg("-initrd").arg(self.initramfs);
        command.args(["-append", KERNEL_ARGUMENTS]);
        let stderr = File::create(said).during(|| format!("create {}", said.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().during(|| "start QEMU".to_owned())?;
        Ok(Qemu(child))
    }
}

/// A console's text, with plain line ends.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// What QEMU said, without its warnings: it has one for each CPU feature that it does not emulate.
fn complaints(bytes: &[u8]) -> String {
    let text = text(bytes);
    text.lines().filter(|line| !line.contains(": warning: ")).collect::<Vec<_>>().join("\n")
}
