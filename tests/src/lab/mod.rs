//! A lab is a stock Debian kernel under an emulator that has SVM, so that `/dev/kvm` works and KVM's
//! exit tracepoints fire on any machine, without root. A kernel, programs and a shell script come in;
//! the script runs in there as root, and its stdout, stderr and exit code come out.
//!
//! The host needs `qemu-system-x86_64` and, to get a kernel for the first time, a Debian archive in
//! apt's sources. A boot takes a few seconds; everything inside runs many times slower than outside.

mod apt;
mod cache;
mod error;
mod host;
mod initramfs;
mod kernel;
mod machine;
mod package;
mod sources;
mod unpack;
mod verdict;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::error::DuringIo;
pub use self::error::LabError;
use self::initramfs::Tree;
pub use self::kernel::Kernel;
use self::machine::Boot;
pub use self::package::unpack_package;

/// Where labs keep kernels and archives: `VMEXIT_LAB_CACHE`, or `target/lab` in the workspace.
pub fn default_cache() -> PathBuf {
    std::env::var_os("VMEXIT_LAB_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("lab"),
        PathBuf::from,
    )
}

/// Where other file systems are mounted, and what the lab keeps for itself.
const RESERVED: [&str; 5] = ["/dev", "/proc", "/sys", "/lab", "/init"];

/// What bytes from a lab are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The kernel's console.
    Console,
    /// The script's standard output.
    Stdout,
    /// The script's standard error.
    Stderr,
}

/// A script that ran to its end.
#[derive(Clone, Debug)]
pub struct LabRun {
    /// Its exit code.
    pub code: i32,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error, byte for byte.
    pub stderr: Vec<u8>,
    /// The kernel's console.
    pub console: String,
    /// From the start of the emulator to its end.
    pub wall: Duration,
}

/// A lab in the making: what is added is copied when a script is run, each time anew.
#[derive(Clone, Debug)]
pub struct Lab {
    kernel: Kernel,
    qemu: bool,
    perf: bool,
    binaries: Vec<(String, PathBuf)>,
    files: Vec<(String, Vec<u8>, u32)>,
    timeout: Duration,
    memory_mb: u32,
}

impl Lab {
    /// A lab with this kernel, busybox and nothing else, 2 GB of memory and two minutes of time.
    pub fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            qemu: false,
            perf: false,
            binaries: Vec::new(),
            files: Vec::new(),
            timeout: Duration::from_secs(120),
            memory_mb: 2048,
        }
    }

    /// Adds a program of the host at a path of the lab, with its shared libraries.
    #[must_use]
    pub fn binary(mut self, path: impl Into<String>, host: impl Into<PathBuf>) -> Self {
        self.binaries.push((path.into(), host.into()));
        self
    }

    /// Adds a file with these contents and permissions at a path of the lab.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path.into(), bytes.into(), mode));
        self
    }

    /// Adds the host's `qemu-system-x86_64` and its firmware, for nested guests with
    /// `-accel kvm -cpu host -nodefaults -vga none`.
    #[must_use]
    pub fn qemu(mut self) -> Self {
        self.qemu = true;
        self
    }

    /// Adds the host's `perf`.
    #[must_use]
    pub fn perf(mut self) -> Self {
        self.perf = true;
        self
    }

    /// How long a run may take, boot included.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The memory of the lab, which holds its files too.
    #[must_use]
    pub fn memory(mut self, mb: u32) -> Self {
        self.memory_mb = mb;
        self
    }

    /// Boots the lab and runs a busybox shell script in it. When the script ends, whatever it started
    /// and left running is killed, and the lab goes down.
    pub fn run(&self, script: &str) -> Result<LabRun, LabError> {
        self.run_streaming(script, |_, _| {})
    }

    /// Does as `run` does, and hands on all that arrives while it arrives.
    ///
    /// It stays in the calling thread, and the emulator dies with that thread.
    pub fn run_streaming(
        &self,
        script: &str,
        mut on: impl FnMut(Stream, &[u8]),
    ) -> Result<LabRun, LabError> {
        let cache = &self.kernel.cache;
        let base = self.base()?;
        let token = token()?;
        let own = self.own(&base, script, &token)?;
        let dir = tempfile::tempdir().during(|| "create a temporary directory".to_owned())?;
        let initramfs = dir.path().join("initramfs");
        initramfs::join(&base.cached(cache)?, &own, &initramfs)
            .during(|| format!("write {}", initramfs.display()))?;
        let boot = Boot {
            vmlinuz: &self.kernel.vmlinuz,
            initramfs: &initramfs,
            memory_mb: self.memory_mb,
            timeout: self.timeout,
            token: &token,
            dir: dir.path(),
        };
        boot.run(&mut on)
    }

    /// What stays the same from run to run and from kernel to kernel.
    fn base(&self) -> Result<Tree, LabError> {
        let mut tree = Tree::default();
        tree.host("/bin/busybox", &unpack::busybox(&self.kernel.cache)?)?;
        tree.symlink("/bin/sh", "busybox")?;
        tree.bytes("/init", include_bytes!("init.sh"), 0o755)?;
        if self.qemu {
            let qemu = host::qemu()?;
            tree.program("/usr/bin/qemu-system-x86_64", &qemu, None)?;
            for file in host::firmware(&qemu)? {
                tree.host(&file.display().to_string(), &file)?;
            }
        }
        if self.perf {
            tree.program("/usr/bin/perf", &host::perf()?, None)?;
        }
        Ok(tree)
    }

    /// What belongs to this run.
    fn own(&self, base: &Tree, script: &str, token: &str) -> Result<Tree, LabError> {
        let mut tree = Tree::default();
        for module in &self.kernel.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            tree.host(&format!("/lab/modules/{name}"), module)?;
        }
        let paths = self.binaries.iter().map(|(path, _)| path);
        for path in paths.chain(self.files.iter().map(|(path, ..)| path)) {
            if RESERVED.iter().any(|reserved| Path::new(path).starts_with(reserved)) {
                return Err(LabError::GuestPath(path.clone()));
            }
        }
        for (path, host) in &self.binaries {
            tree.program(path, host, Some(base))?;
        }
        for (path, bytes, mode) in &self.files {
            tree.bytes(path, bytes, *mode)?;
        }
        tree.bytes("/lab/script", script.as_bytes(), 0o644)?;
        tree.bytes("/lab/token", token.as_bytes(), 0o600)?;
        Ok(tree)
    }
}

/// A word that no script can guess.
fn token() -> Result<String, LabError> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .during(|| "read /dev/urandom".to_owned())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
