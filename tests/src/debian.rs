//! A Debian to install packages in: a plain directory tree, or booted by its own systemd.
//!
//! All changes are in memory. Its mounts and processes are in namespaces held by one process. That process
//! ends when the value is dropped, and when the test process ends for whatever reason.

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

/// Longest time to boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mounts a fresh Debian at `$at/root`: an overlay in memory over the cached one.
const FRESH: &str = "
set -e
mount -t tmpfs tmpfs $at
mkdir $at/changes $at/work $at/root
mount -t overlay overlay -o lowerdir=$base,upperdir=$at/changes,workdir=$at/work $at/root
";

/// Setup of a Debian that is not booted: the host's processes and tracepoints, and `$packages` at `/packages`.
const AT_REST: &str = "
mount -t proc proc $at/root/proc
mount --rbind /sys $at/root/sys
mkdir $at/root/packages
mount --bind $packages $at/root/packages
echo ready
exec cat
";

/// Setup of a Debian that is booted by systemd-nspawn, in a control group of its own (cgroups(7)).
///
/// nspawn needs cgroup version 2 alone, and would ask the host's systemd for a group. The private network
/// hides most of `/sys`. Capabilities and system calls are those of a host. The shell ends with its standard
/// input, and with it all processes of the namespace.
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

/// Removes the empty control groups that a booted Debian leaves behind.
const FORGET: &str = "
mount -t cgroup2 cgroup2 $at
[ ! -d $at/$group ] || find $at/$group -depth -type d -exec rmdir {} +
";

/// A Debian in which packages can be installed.
#[derive(Debug)]
pub struct Debian {
    holder: Child,
    /// Standard input of the holder; closing it ends the holder.
    stdin: Option<ChildStdin>,
    /// Command line before that of a command to run inside.
    enter: Vec<String>,
    directory: TempDir,
}

impl Debian {
    /// A Debian that is not booted. It sees the host's processes and tracepoints; `packages` is at `/packages`.
    ///
    /// # Errors
    ///
    /// When the cached Debian can't be made or the namespaces can't be created.
    pub fn at_rest(packages: &Path) -> Result<Self> {
        let (mut debian, pid) = Self::hold(&["--mount"], AT_REST, packages)?;
        let root = debian.directory.path().join("root").display().to_string();
        debian.enter =
            ["nsenter", "--target", &pid, "--mount", "chroot", &root].map(Into::into).into();
        Ok(debian)
    }

    /// A Debian booted by its own systemd, with its own processes and network.
    ///
    /// # Errors
    ///
    /// As [`Self::at_rest`]; and when it has not booted within a minute. The error has its console then.
    pub fn booted(packages: &Path) -> Result<Self> {
        let apart = ["--mount", "--pid", "--fork", "--kill-child"];
        let (mut debian, pid) = Self::hold(&apart, BOOTED, packages)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Chain of children: unshare, the shell, nspawn, init.
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

    /// Starts the holder, which sets its namespaces up by a script; the Debian, and the process ID of the holder.
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

    /// Output of a shell line that runs inside.
    ///
    /// # Errors
    ///
    /// When the shell can't be started. A line that fails is no error.
    pub fn output(&self, line: &str) -> Result<Output> {
        let (program, arguments) = self.enter.split_first().context("it has not started")?;
        let mut command = Command::new(program);
        command.args(arguments).args(["bash", "-c", line]).stdin(Stdio::null());
        // Without the variables that cargo sets for tests.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.output().with_context(|| format!("run {line}"))
    }

    /// Standard output of a shell line that must succeed.
    ///
    /// # Errors
    ///
    /// When the line fails or its output is not UTF-8.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        let [said, warned] = [output.stdout, output.stderr].map(String::from_utf8);
        let (said, warned) = (said?, warned?);
        ensure!(output.status.success(), "{line}: {}: {said}{warned}", output.status);
        Ok(said)
    }

    /// Command that runs a program of the host in the process namespace of a booted Debian.
    ///
    /// # Errors
    ///
    /// When the Debian has not started.
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

/// File with the console of a booted Debian. It is beside the directory, whose contents only the holder sees.
fn console(directory: &TempDir) -> PathBuf {
    directory.path().with_extension("console")
}

/// Sets the variables of the scripts: `at`, the directory, and `group`, the control group.
fn with_names<'a>(command: &'a mut Command, directory: &TempDir) -> &'a mut Command {
    let group = directory.path().file_name().unwrap_or_default();
    command.env("at", directory.path()).env("group", group)
}

/// Process ID of the child with this name.
fn child(pid: &str, name: &str) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let named = |child: &&str| {
        let comm = fs::read_to_string(format!("/proc/{child}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    children.split_whitespace().find(named).map(str::to_owned)
}
