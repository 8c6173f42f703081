//! Labs: a stock Debian kernel under an emulator of SVM or VMX. In a lab `/dev/kvm` works and KVM's exit tracepoints
//! fire, on any host and without root.
//!
//! A lab boots a kernel with programs and files, and runs a shell script as root. The result is the script's stdout,
//! stderr and exit code.
//!
//! The first run needs a Debian archive in apt's sources: kernel, busybox and (for Intel) Bochs are unpacked from
//! its packages and kept in a cache. For AMD the host needs `qemu-system-x86_64`. A lab is many times slower than
//! the host: a boot takes a few seconds on AMD, and ten to twenty on Intel.

mod apt;
mod bochs;
mod cache;
mod debootstrap;
mod error;
mod host;
mod initramfs;
mod kernel;
mod machine;
mod package;
mod qemu;
mod sources;
mod unpack;
mod verdict;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use self::{bochs::Bochs, error::DuringIo, initramfs::Tree, machine::Guest};
pub use self::{debootstrap::debian, error::LabError, kernel::LabKernel, package::unpack_package};

/// Directory of the labs' cache: `VMEXIT_LAB_CACHE`, or `target/lab` in the workspace.
pub fn default_cache() -> PathBuf {
    std::env::var_os("VMEXIT_LAB_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("lab"),
        PathBuf::from,
    )
}

/// Paths at which the lab mounts file systems or has its own files.
const RESERVED: [&str; 5] = ["/dev", "/proc", "/sys", "/lab", "/init"];

/// Character types of the locale C.UTF-8 (Debian's libc-bin), which tmux needs to start.
const UTF8: &str = "/usr/lib/locale/C.utf8/LC_CTYPE";

/// Source of bytes from a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The kernel's console.
    Console,
    /// The script's standard output.
    Stdout,
    /// The script's standard error.
    Stderr,
}

/// Result of a script that ran to its end.
#[derive(Clone, Debug)]
pub struct LabRun {
    /// Exit code of the script.
    pub code: i32,
    /// Standard output of the script, unchanged.
    pub stdout: Vec<u8>,
    /// Standard error of the script, unchanged.
    pub stderr: Vec<u8>,
    /// Output on the kernel's console.
    pub console: String,
    /// Time from the start of the emulator to its end.
    pub wall: Duration,
}

/// Vendor of the lab's CPU, which determines its virtualization extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabVendor {
    /// AMD's SVM, in QEMU: the faster lab. By default its clock is that of the host.
    #[default]
    Amd,
    /// Intel's VMX, in Bochs. Its clock counts instructions, so times are the same in each run.
    Intel,
}

impl LabVendor {
    const fn timeout(self) -> Duration {
        match self {
            Self::Amd => Duration::from_secs(120),
            Self::Intel => Duration::from_secs(300),
        }
    }

    const fn memory_mb(self) -> u32 {
        match self {
            Self::Amd => 2048,
            Self::Intel => 1024,
        }
    }
}

/// Builder of a lab. Each run boots a new lab with a copy of all files added here.
#[derive(Clone, Debug)]
pub struct Lab {
    kernel: LabKernel,
    vendor: LabVendor,
    qemu: bool,
    perf: bool,
    tmux: bool,
    binaries: Vec<(String, PathBuf)>,
    files: Vec<(String, Vec<u8>, u32)>,
    kernels: Vec<String>,
    initramfs: Vec<(String, Vec<u8>)>,
    instruction_clock: Option<u32>,
    timeout: Option<Duration>,
    memory_mb: Option<u32>,
}

impl Lab {
    /// A lab with this kernel and busybox, on AMD.
    pub fn new(kernel: LabKernel) -> Self {
        Self {
            kernel,
            vendor: LabVendor::default(),
            qemu: false,
            perf: false,
            tmux: false,
            binaries: Vec::new(),
            files: Vec::new(),
            kernels: Vec::new(),
            initramfs: Vec::new(),
            instruction_clock: None,
            timeout: None,
            memory_mb: None,
        }
    }

    /// Sets the vendor of the CPU.
    #[must_use]
    pub fn vendor(mut self, vendor: LabVendor) -> Self {
        self.vendor = vendor;
        self
    }

    /// Adds a program of the host at this path in the lab, with its shared libraries.
    #[must_use]
    pub fn binary(mut self, path: impl Into<String>, host: impl Into<PathBuf>) -> Self {
        self.binaries.push((path.into(), host.into()));
        self
    }

    /// Adds a file with these contents and permissions at this path in the lab.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path.into(), bytes.into(), mode));
        self
    }

    /// Adds the image of the lab's kernel at this path in the lab, for nested guests.
    #[must_use]
    pub fn kernel_image(mut self, path: impl Into<String>) -> Self {
        self.kernels.push(path.into());
        self
    }

    /// Adds an initramfs at this path in the lab, for nested guests. It has busybox, as `/bin/busybox` and `/bin/sh`,
    /// and this `/init`.
    #[must_use]
    pub fn initramfs(mut self, path: impl Into<String>, init: impl Into<Vec<u8>>) -> Self {
        self.initramfs.push((path.into(), init.into()));
        self
    }

    /// Adds the host's `qemu-system-x86_64` and its firmware, for nested guests with
    /// `-accel kvm -cpu host -nodefaults -vga none`.
    #[must_use]
    pub fn qemu(mut self) -> Self {
        self.qemu = true;
        self
    }

    /// Adds the host's `perf`. On Intel it takes minutes to start.
    #[must_use]
    pub fn perf(mut self) -> Self {
        self.perf = true;
        self
    }

    /// Adds the host's `tmux`, for programs that need a terminal: see [`crate::tmux::functions`].
    #[must_use]
    pub fn tmux(mut self) -> Self {
        self.tmux = true;
        self
    }

    /// Makes the clock of the AMD lab count instructions: one takes 8 ns, whatever the host does. A sleep takes no time
    /// on the host.
    #[must_use]
    pub fn instruction_clock(self) -> Self {
        self.instruction_clock_of(3)
    }

    /// Like [`Self::instruction_clock`], with 2 to the power of `shift` nanoseconds per instruction. The smaller it is,
    /// the faster the lab is by its own clock, and the slower by the host's.
    #[must_use]
    pub fn instruction_clock_of(mut self, shift: u32) -> Self {
        self.instruction_clock = Some(shift);
        self
    }

    /// Sets the longest time of a run, including the boot. Defaults: two minutes on AMD, five on Intel.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the memory of the lab, which also holds its files. Defaults: 2 GB on AMD, 1 GB on Intel.
    #[must_use]
    pub fn memory(mut self, mb: u32) -> Self {
        self.memory_mb = Some(mb);
        self
    }

    /// Boots the lab and runs a busybox shell script in it. When the script ends, its remaining processes are killed
    /// and the lab powers off.
    ///
    /// # Errors
    ///
    /// When the lab can't be built, crashes, hangs or ends without a verdict. A script that fails is no error.
    pub fn run(&self, script: &str) -> Result<LabRun, LabError> {
        self.run_streaming(script, |_, _| {})
    }

    /// Like [`Self::run`], and passes all output to `on` as it arrives.
    ///
    /// All work is done in the calling thread. The emulator ends with that thread.
    ///
    /// # Errors
    ///
    /// See [`Self::run`].
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
        match self.vendor {
            LabVendor::Amd => initramfs::join(&base.cached(cache)?, &own, &initramfs),
            LabVendor::Intel => initramfs::join_plain(&base, &own, &initramfs),
        }
        .during(|| format!("write {}", initramfs.display()))?;
        let memory_mb = self.memory_mb.unwrap_or(self.vendor.memory_mb());
        let guest = Guest::new(&self.kernel.vmlinuz, &initramfs, memory_mb, dir.path());
        let program = match self.vendor {
            LabVendor::Amd => qemu::prepare(&guest, self.instruction_clock)?,
            LabVendor::Intel => Bochs::get(cache)?.prepare(&guest)?,
        };
        program.run(guest, &token, self.timeout.unwrap_or(self.vendor.timeout()), &mut on)
    }

    /// Files that are the same for all runs and kernels.
    fn base(&self) -> Result<Tree, LabError> {
        let mut tree = self.busybox(include_bytes!("init.sh"))?;
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
        if self.tmux {
            tree.program("/usr/bin/tmux", &host::tool("tmux", "tmux")?, None)?;
            tree.host(UTF8, Path::new(UTF8))?;
        }
        Ok(tree)
    }

    /// Busybox and an init.
    fn busybox(&self, init: &[u8]) -> Result<Tree, LabError> {
        let mut tree = Tree::default();
        tree.host("/bin/busybox", &unpack::busybox(&self.kernel.cache)?)?;
        tree.symlink("/bin/sh", "busybox")?;
        tree.bytes("/init", init, 0o755)?;
        Ok(tree)
    }

    /// Files of this run only.
    fn own(&self, base: &Tree, script: &str, token: &str) -> Result<Tree, LabError> {
        let mut tree = Tree::default();
        for module in &self.kernel.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let path = format!("/lab/modules/{name}");
            match self.vendor {
                LabVendor::Amd => tree.host(&path, module)?,
                // The check of the signatures takes seconds in Bochs.
                LabVendor::Intel => {
                    let bytes = fs::read(module).during(|| format!("read {}", module.display()))?;
                    tree.bytes(&path, kernel::unsigned(&bytes), 0o644)?;
                }
            }
        }
        let paths = self.binaries.iter().map(|(path, _)| path);
        let paths = paths.chain(self.files.iter().map(|(path, ..)| path));
        let paths = paths.chain(&self.kernels);
        for path in paths.chain(self.initramfs.iter().map(|(path, _)| path)) {
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
        for path in &self.kernels {
            tree.host(path, &self.kernel.vmlinuz)?;
        }
        for (path, init) in &self.initramfs {
            let archive =
                self.busybox(init)?.write(Vec::new()).during(|| format!("make {path}"))?;
            tree.bytes(path, &archive, 0o644)?;
        }
        tree.bytes("/lab/script", script.as_bytes(), 0o644)?;
        tree.bytes("/lab/token", token.as_bytes(), 0o600)?;
        Ok(tree)
    }
}

/// A random word that marks the verdict of a run.
fn token() -> Result<String, LabError> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .during(|| "read /dev/urandom".to_owned())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
