//! A Debian to install into: at rest, as a directory, or booted by its own systemd. All that happens to it
//! is in memory. Mounts and processes are in namespaces that a process holds which ends with this value, or
//! with this process however that ends.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::lab;

/// How long it may take to boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh Debian over the one that is kept, `$at/root`; changes are in memory.
const FRESH: &str = "
set -e
mount -t tmpfs tmpfs $at
mkdir $at/changes $at/work $at/root
mount -t overlay overlay -o lowerdir=$base,upperdir=$at/changes,workdir=$at/work $at/root
";

/// With the host's processes and tracepoints, and `$packages` in `/packages`.
const AT_REST: &str = "
mount -t proc proc $at/root/proc
mount --rbind /sys $at/root/sys
mkdir $at/root/packages
mount --bind $packages $at/root/packages
echo ready
exec cat
";

/// Booted, in a group of its own (cgroups(7)): nspawn wants version 2 alone, and would ask for the host's
/// systemd. A network of its own takes most of `/sys` away; its capabilities and system calls are those of
/// a host. What ends when standard input does takes all others with it.
const BOOTED: &str = "
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
if ! [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir /sys/fs/cgroup/$group
echo 0 >/sys/fs/cgroup/$group/cgroup.procs
systemd-nspawn --quiet --boot --directory=$at/root --machine=$group --console=pipe \
    --register=no --keep-unit --link-journal=no --private-network \
    --capability=all --system-call-filter='bpf perf_event_open' \
    --bind=/sys/kernel/tracing --bind-ro=/sys/module --bind-ro=$packages:/packages \
    </dev/null >$console 2>&1 &
echo ready
cat
";

/// Takes the groups away that a booted one has left, empty as they are.
const FORGET: &str = "
mount -t cgroup2 cgroup2 $at
[ ! -d $at/$group ] || find $at/$group -depth -type d -exec rmdir {} +
";

/// One that can be installed into.
#[derive(Debug)]
pub struct Debian {
    holder: Child,
    /// What keeps the holder.
    stdin: Option<ChildStdin>,
    /// What comes before a command that runs inside.
    enter: Vec<String>,
    directory: TempDir,
}

impl Debian {
    /// Nothing runs in it; the host's processes and tracepoints can be seen. `packages` is in `/packages`.
    pub fn at_rest(packages: &Path) -> Result<Self> {
        let (mut debian, pid) = Self::hold(&["--mount"], AT_REST, packages)?;
        let root = debian.directory.path().join("root").display().to_string();
        debian.enter =
            ["nsenter", "--target", &pid, "--mount", "chroot", &root].map(Into::into).into();
        Ok(debian)
    }

    /// Its systemd runs it, with processes and a network of its own.
    pub fn booted(packages: &Path) -> Result<Self> {
        let apart = ["--mount", "--pid", "--fork", "--kill-child"];
        let (mut debian, pid) = Self::hold(&apart, BOOTED, packages)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Of unshare, a shell, and nspawn.
            let init = child(&pid, "sh").and_then(|shell| child(&shell, "systemd-nspawn"));
            if let Some(init) = init.and_then(|nspawn| child(&nspawn, "systemd")) {
                debian.enter = ["nsenter", "--target", &init, "--all"].map(Into::into).into();
                let state = debian.output("systemctl is-system-running")?;
                if state.stdout.starts_with(b"running") {
                    return Ok(debian);
                }
            }
            sleep(Duration::from_millis(100));
        }
        let said = fs::read_to_string(console(&debian.directory))?;
        bail!("it has not booted within {PATIENCE:?}: {said}");
    }

    /// A process that has made namespaces as a script says, and its id.
    fn hold(apart: &[&str], script: &str, packages: &Path) -> Result<(Self, String)> {
        let directory = tempfile::Builder::new().prefix("vmexit-debian-").tempdir()?;
        let mut command = Command::new("unshare");
        command.args(apart).args(["sh", "-c", &format!("{FRESH}{script}")]);
        command.env("base", lab::debian(&lab::default_cache())?).env("packages", packages);
        command.env("console", console(&directory));
        let mut holder = with_names(&mut command, &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare (util-linux) must run")?;
        let stdin = holder.stdin.take();
        let mut ready = [0; 6];
        let said = holder.stdout.take().context("no standard output")?.read_exact(&mut ready);
        let pid = holder.id().to_string();
        let debian = Self { holder, stdin, enter: Vec::new(), directory };
        said.context("its namespaces can't be made: be root")?;
        Ok((debian, pid))
    }

    /// Runs a shell line in it.
    pub fn output(&self, line: &str) -> Result<Output> {
        let (program, arguments) = self.enter.split_first().context("it has not started")?;
        let mut command = Command::new(program);
        command.args(arguments).args(["bash", "-c", line]).stdin(Stdio::null());
        // Not what cargo sets for tests.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.output().with_context(|| format!("run {line}"))
    }

    /// The same of one that must succeed; what it has written to standard output.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        let [said, warned] = [output.stdout, output.stderr].map(String::from_utf8);
        let (said, warned) = (said?, warned?);
        ensure!(output.status.success(), "{line}: {}: {said}{warned}", output.status);
        Ok(said)
    }

    /// A program of the host among the processes of one that is booted.
    pub fn beside(&self, program: &str) -> Result<Command> {
        let init = self.enter.get(2).context("it has not started")?;
        let mut command = Command::new("nsenter");
        command.args(["--target", init, "--pid", program]);
        Ok(command)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.holder.wait();
        let mut forget = Command::new("unshare");
        forget.args(["--mount", "sh", "-c", FORGET]);
        let _ = with_names(&mut forget, &self.directory).status();
        let _ = fs::remove_file(console(&self.directory));
    }
}

/// What a booted one says, in a file beside the directory, which is hidden from us.
fn console(directory: &TempDir) -> PathBuf {
    directory.path().with_extension("console")
}

/// What scripts call the directory and the group.
fn with_names<'a>(command: &'a mut Command, directory: &TempDir) -> &'a mut Command {
    let group = directory.path().file_name().unwrap_or_default();
    command.env("at", directory.path()).env("group", group)
}

/// A child of a process that has this name.
fn child(pid: &str, name: &str) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let named = |child: &&str| {
        let comm = fs::read_to_string(format!("/proc/{child}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    children.split_whitespace().find(named).map(str::to_owned)
}
