//! A VMM of a hostile tenant, and a handle on the program `vmexit-fake-vmm` that contains it.
//!
//! It owns a real KVM VM whose vCPUs exit several times a second, so that vmexit finds it as it finds any VMM. Its
//! command line, descriptors, threads and QMP socket are what a test wants. It ends with its standard input.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio, exit},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::vcpus::{MinimalVm, exit_once};

/// Line that the program prints once it is as the test wants it.
const READY: &str = "ready";

/// Time between two exits of a vCPU.
const PAUSE: Duration = Duration::from_millis(50);

/// Prefix of the environment variables with the behaviour.
const PREFIX: &str = "VMEXIT_FAKE_";

/// Behaviour on the QMP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeQmp {
    /// Answers with a memory tree of so many bytes.
    Tree(usize),
    /// Says nothing.
    Hangs,
    /// Says something else than QMP.
    Lies,
}

/// A fake VMM to start.
#[derive(Debug)]
pub struct FakeVmm {
    program: PathBuf,
    arguments: Vec<OsString>,
    behaviour: Vec<(&'static str, OsString)>,
}

impl FakeVmm {
    /// A VM with one vCPU that pretends to be QEMU. `program` is `vmexit-fake-vmm`.
    pub fn new(program: &Path) -> Self {
        Self { program: program.to_owned(), arguments: Vec::new(), behaviour: Vec::new() }
    }

    /// Adds arguments. Linux limits each to 128 KiB.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Opens so many further descriptors, before those of the VM.
    pub fn descriptors(self, number: u32) -> Self {
        self.with("DESCRIPTORS", number.to_string())
    }

    /// Runs so many vCPUs.
    pub fn vcpus(self, number: u32) -> Self {
        self.with("VCPUS", number.to_string())
    }

    /// Lets the first vCPU run on one new thread after the other, so many a second.
    pub fn threads_per_second(self, number: u32) -> Self {
        self.with("THREADS", number.to_string())
    }

    /// Closes the descriptor of the VM, whose vCPUs run on.
    pub fn closes_vm(self) -> Self {
        self.with("CLOSES_VM", "1")
    }

    /// Listens on a QMP socket, which is not in the command line.
    pub fn qmp(self, socket: &Path, behaviour: FakeQmp) -> Self {
        let how = match behaviour {
            FakeQmp::Tree(bytes) => bytes.to_string(),
            FakeQmp::Hangs => "hangs".to_owned(),
            FakeQmp::Lies => "lies".to_owned(),
        };
        self.with("QMP", socket).with("QMP_HOW", how)
    }

    fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.behaviour.push((name, value.into()));
        self
    }

    /// Starts it, and waits until it is as wanted.
    ///
    /// # Errors
    ///
    /// When the program can't be started or ends early, such as without KVM.
    pub fn start(self) -> Result<RunningFake> {
        let mut command = Command::new(&self.program);
        command.arg0("qemu-system-x86_64").args(&self.arguments);
        command.envs(self.behaviour.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let running = RunningFake { child, stdin };
        let mut line = String::new();
        BufReader::new(stdout.context("its output is piped")?).read_line(&mut line)?;
        ensure!(line.trim_end() == READY, "vmexit-fake-vmm ended before it was ready");
        Ok(running)
    }
}

/// A fake VMM that runs. It ends when the value is dropped.
#[derive(Debug)]
pub struct RunningFake {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl RunningFake {
    /// Process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for RunningFake {
    fn drop(&mut self) {
        self.stdin = None;
        // It fails only if the program was waited for already.
        let _ = self.child.wait();
    }
}

/// Value of the environment for a behaviour.
fn value(name: &str) -> Option<OsString> {
    env::var_os(format!("{PREFIX}{name}"))
}

fn number(name: &str) -> Result<Option<u32>> {
    let text = value(name).map(|value| value.to_string_lossy().into_owned());
    text.map(|text| text.parse().with_context(|| format!("{name}: {text}"))).transpose()
}

/// Main function of `vmexit-fake-vmm`: does what the environment says until standard input ends.
///
/// # Errors
///
/// When KVM can't be used, or there can't be so many descriptors.
pub fn run() -> Result<()> {
    let null = (0..number("DESCRIPTORS")?.unwrap_or(0))
        .map(|_| File::open("/dev/null"))
        .collect::<io::Result<Vec<_>>>()?;
    if let Some(path) = value("QMP") {
        let listener = UnixListener::bind(path)?;
        let how = value("QMP_HOW").unwrap_or_default().to_string_lossy().into_owned();
        thread::spawn(move || serve(&listener, &how));
    }
    let vm = MinimalVm::create()?;
    let threads_per_second = number("THREADS")?;
    let mut vcpus =
        (0..number("VCPUS")?.unwrap_or(1)).map(|n| vm.vcpu(n)).collect::<Result<Vec<_>>>()?;
    if value("CLOSES_VM").is_some() {
        vm.close();
    } else {
        std::mem::forget(vm);
    }
    if let (Some(rate), false) = (threads_per_second, vcpus.is_empty()) {
        let vcpu = Arc::new(Mutex::new(vcpus.remove(0)));
        thread::spawn(move || {
            loop {
                let vcpu = vcpu.clone();
                let run =
                    move || exit_once(&mut vcpu.lock().unwrap_or_else(PoisonError::into_inner));
                // Thread limits make it slower.
                drop(thread::Builder::new().spawn(run));
                sleep(Duration::from_secs(1) / rate.max(1));
            }
        });
    }
    for (number, mut vcpu) in vcpus.into_iter().enumerate() {
        // QEMU's name for a vCPU thread.
        thread::Builder::new().name(format!("CPU {number}/KVM")).spawn(move || {
            loop {
                if let Err(error) = exit_once(&mut vcpu) {
                    eprintln!("vmexit-fake-vmm: {error:#}");
                    exit(1);
                }
                sleep(PAUSE);
            }
        })?;
    }
    println!("{READY}");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    drop(null);
    Ok(())
}

fn serve(listener: &UnixListener, how: &str) {
    for stream in listener.incoming().flatten() {
        let how = how.to_owned();
        // A peer that leaves early is no error.
        thread::spawn(move || answer(stream, &how));
    }
}

fn answer(mut stream: UnixStream, how: &str) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    match how {
        "hangs" => {}
        "lies" => stream.write_all(b"220 mail ESMTP\r\n")?,
        bytes => {
            stream.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n")?;
            lines.next();
            stream.write_all(b"{\"return\": {}, \"id\": 1}\r\n")?;
            lines.next();
            let tree = tree(bytes.parse().unwrap_or(0));
            writeln!(stream, "{{\"return\": \"{tree}\", \"id\": 2}}")?;
        }
    }
    lines.for_each(drop);
    Ok(())
}

/// A memory tree of some `bytes`, as text in JSON.
fn tree(bytes: usize) -> String {
    let mut tree = String::from(
        r#"FlatView #0\r\n AS \"memory\", root: system\r\nFlatView #1\r\n AS \"I/O\", root: io\r\n"#,
    );
    let mut port = 0u64;
    while tree.len() < bytes {
        tree += &format!(r"  {port:016x}-{port:016x} (prio 0, i/o): {}\r\n", "x".repeat(200));
        port += 1;
    }
    tree
}
