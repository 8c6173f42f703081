//! Commands of the human monitor through libvirt: `virsh qemu-monitor-command`.
//!
//! The domain of a process comes from libvirt's own files, as a VMM could change its command line.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use vmexit_core::escape::{self, safe};

use super::trusted;

/// Maximum size of a domain's status file, bytes; those of large domains have some 100 kB.
const MAX_STATUS: u64 = 4 << 20;

/// Maximum size of an answer, bytes; the same as with QMP.
const MAX_ANSWER: u64 = super::qmp::MAX_ANSWER as u64;

/// Most domains that are asked at a time.
static RUNNING: Semaphore = Semaphore::const_new(8);

/// Maximum size of virsh's error message, bytes.
const MAX_STDERR: u64 = 4 << 10;

/// Reason why libvirt did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtError {
    /// [`Virsh::Skip`](super::Virsh::Skip) was set.
    #[error(
        "not asked, as libvirt marks a domain as tainted (custom-monitor) when its monitor is used"
    )]
    Skipped,
    /// Neither the system's libvirt nor this user's session has the process as that domain.
    #[error(
        "libvirt knows no such domain with process {0}, on this host or in this user's session: it may be in a \
         container or another user's session"
    )]
    Unknown(u32),
    /// The domain's status file can't be read.
    #[error("{} can't be read: {error}", escape::path(path))]
    Status {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        error: io::Error,
    },
    /// There is no virsh, or none that only root can write.
    #[error(
        "no virsh that only root can write is in {}: install libvirt's clients", trusted::DIRECTORIES.join(", ")
    )]
    NoTrustedVirsh,
    /// virsh can't be run.
    #[error("virsh can't be run: {0}")]
    NoVirsh(#[source] io::Error),
    /// No answer in time.
    #[error("libvirt gave no answer within {0:.1?}")]
    NoAnswer(Duration),
    /// The answer is longer than this, bytes.
    #[error("virsh printed more than {0} bytes")]
    TooLong(u64),
    /// The answer is not UTF-8.
    #[error("the output of virsh is not text")]
    Garbage,
    /// First line of virsh's error message, safe to print.
    #[error("virsh failed: {0}")]
    Failed(String),
}

/// A running domain.
#[derive(Debug, PartialEq, Eq)]
struct Domain {
    uri: &'static str,
    /// UUID as libvirt writes it. The name is not used: virsh takes a number for an ID (`virshLookupDomainInternal`,
    /// libvirt's `tools/virsh-util-domain.c`).
    uuid: String,
}

/// Runs `command` in the human monitor of the domain `name`, which is process `pid`, and returns its output.
///
/// # Errors
/// libvirt does not have the domain, virsh fails, or there is no answer within the limits.
pub(super) async fn human_monitor(
    pid: u32,
    name: &str,
    command: &str,
    within: Duration,
) -> Result<String, LibvirtError> {
    let deadline = Instant::now() + within;
    let answer = async {
        let _running = RUNNING.acquire().await;
        let domain = Domain::find(pid, name).await?;
        let program = trusted::program("virsh").ok_or(LibvirtError::NoTrustedVirsh)?;
        run(virsh(&program, &domain, command)).await
    };
    timeout_at(deadline, answer).await.map_err(|_| LibvirtError::NoAnswer(within))?
}

impl Domain {
    async fn find(pid: u32, name: &str) -> Result<Self, LibvirtError> {
        // libvirt rejects such names (`virDomainDefPostParseCommon`).
        if name.contains('/') {
            return Err(LibvirtError::Unknown(pid));
        }
        for (uri, directory) in state_directories() {
            let path = directory.join(format!("{name}.xml"));
            let status = match read(&path).await {
                Ok(status) => status,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(LibvirtError::Status { path, error }),
            };
            if let Some(uuid) = uuid_of(pid, &status) {
                return Ok(Self { uri, uuid: uuid.to_owned() });
            }
        }
        Err(LibvirtError::Unknown(pid))
    }
}

/// Directories with the status of running domains, of the system and of this user's session
/// (`virQEMUDriverConfigNew`, `src/qemu/qemu_conf.c`).
fn state_directories() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let session = session_directory()
        .map(|directory| ("qemu:///session", directory.join("libvirt/qemu/run")));
    [("qemu:///system", PathBuf::from("/run/libvirt/qemu"))].into_iter().chain(session)
}

/// Directory of this user's session, if it is only this user's: sudo may keep the variable of another user.
fn session_directory() -> Option<PathBuf> {
    let directory = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    let metadata = fs::symlink_metadata(&directory).ok()?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    (directory.is_absolute() && metadata.is_dir() && is_ours && metadata.mode() & 0o022 == 0)
        .then_some(directory)
}

async fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path).await?.take(MAX_STATUS).read_to_string(&mut text).await?;
    Ok(text)
}

/// UUID of the domain, if its process is this one (`virDomainObjFormat`, `src/conf/domain_conf.c`):
///
/// ```xml
/// <domstatus state='running' reason='booted' pid='123'>
///   <domain type='kvm' id='1'>
///     <uuid>...</uuid>
/// ```
fn uuid_of(pid: u32, status: &str) -> Option<&str> {
    let (_, status) = status.split_once("<domstatus ")?;
    let (attributes, status) = status.split_once('>')?;
    if !attributes.split(' ').any(|attribute| attribute == format!("pid='{pid}'")) {
        return None;
    }
    let (_, domain) = status.split_once("<domain ")?;
    let (_, uuid) = domain.split_once("<uuid>")?;
    let (uuid, _) = uuid.split_once("</uuid>")?;
    uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-').then_some(uuid)
}

/// Command that asks through this virsh. Nothing of this program's environment reaches it, except for the directory of
/// the session.
fn virsh(program: &Path, domain: &Domain, command: &str) -> Command {
    let mut virsh = Command::new(program);
    virsh.env_clear().env("PATH", trusted::DIRECTORIES.join(":")).current_dir("/");
    if let Some(directory) = session_directory() {
        virsh.env("XDG_RUNTIME_DIR", directory);
    }
    virsh.args(["--quiet", "--connect", domain.uri, "qemu-monitor-command", "--hmp"]);
    virsh.arg(format!("--domain={}", domain.uuid)).args(["--cmd", command]);
    // Don't start a daemon that has ended (libvirt's `src/remote/remote_sockets.c`).
    virsh.env("LIBVIRT_AUTOSTART", "0").env("LC_ALL", "C");
    virsh
}

async fn run(mut virsh: Command) -> Result<String, LibvirtError> {
    virsh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = virsh.spawn().map_err(LibvirtError::NoVirsh)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (printed, message) =
        tokio::join!(read_start(stdout, MAX_ANSWER + 1), read_start(stderr, MAX_STDERR));
    // If virsh prints more, it ends by the closed pipe or by the caller's time limit.
    if printed.len() as u64 > MAX_ANSWER {
        return Err(LibvirtError::TooLong(MAX_ANSWER));
    }
    let status = child.wait().await.map_err(LibvirtError::NoVirsh)?;
    if !status.success() {
        let message = String::from_utf8_lossy(&message);
        let message = message.trim().trim_start_matches("error: ");
        let first_line = message.lines().next().map_or_else(|| status.to_string(), safe);
        return Err(LibvirtError::Failed(first_line));
    }
    String::from_utf8(printed).map_err(|_| LibvirtError::Garbage)
}

/// Reads a pipe until its end or an error, up to `most` bytes.
async fn read_start(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut start = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(most).read_to_end(&mut start).await;
    }
    start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A status file of libvirt 9.0, shortened.
    const STATUS: &str = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n\
        <domstatus state='running' reason='booted' pid='1234'>\n  <taint flag='custom-monitor'/>\n  \
        <monitor path='/var/lib/libvirt/qemu/domain-1-5/monitor.sock' type='unix'/>\n  \
        <domain type='kvm' id='1'>\n    <name>5</name>\n    \
        <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n  </domain>\n</domstatus>\n";

    #[test]
    fn uuid_of_requires_matching_pid_and_whole_status() {
        assert_eq!(uuid_of(1234, STATUS), Some("c7a5fdbd-edaf-9455-926a-d65c16db1809"));
        assert_eq!(uuid_of(123, STATUS), None);
        assert_eq!(uuid_of(1234, &STATUS.replace("c7a5", "--x ")), None);
        for end in 0..STATUS.find("</uuid>").unwrap() {
            assert_eq!(uuid_of(1234, &STATUS[..end]), None);
        }
    }

    #[tokio::test]
    async fn find_of_name_that_is_a_path_is_unknown() {
        for name in ["../../../tmp/x", "/tmp/x", "", ".", "none of this name"] {
            let error = Domain::find(1, name).await.unwrap_err();
            assert!(matches!(error, LibvirtError::Unknown(1)), "{name}: {error}");
        }
    }

    async fn run_shell(line: &str) -> Result<String, LibvirtError> {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        run(shell).await
    }

    #[tokio::test]
    async fn run_returns_output_or_reason_of_failure() {
        assert_eq!(run_shell("echo tree").await.unwrap(), "tree\n");
        let failed = run_shell("echo error: no such $(printf '\\033') domain >&2; exit 1").await;
        assert_eq!(failed.unwrap_err().to_string(), r"virsh failed: no such \u{1b} domain");
        let silent = run_shell("exit 3").await.unwrap_err().to_string();
        assert_eq!(silent, "virsh failed: exit status: 3");
        let garbage = run_shell(r"printf '\377'").await.unwrap_err();
        assert!(matches!(garbage, LibvirtError::Garbage), "{garbage}");
        let endless = run_shell("exec cat /dev/zero").await.unwrap_err();
        assert!(matches!(endless, LibvirtError::TooLong(_)), "{endless}");
        let missing = run(Command::new("/no/such/virsh")).await.unwrap_err();
        assert!(matches!(missing, LibvirtError::NoVirsh(_)), "{missing}");
    }

    #[tokio::test]
    async fn run_when_dropped_kills_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let line = format!("echo $$ > {}; exec sleep 60", file.display());
        let written = async {
            loop {
                match fs::read_to_string(&file) {
                    Ok(pid) if pid.ends_with('\n') => return pid,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let pid = tokio::select! {
            ended = run_shell(&line) => panic!("{ended:?}"),
            pid = written => pid,
        };
        let stat = format!("/proc/{}/stat", pid.trim());
        let begun = Instant::now();
        // Gone, or dead and not yet collected.
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begun.elapsed() < Duration::from_secs(10), "it still runs");
        }
    }

    #[test]
    fn status_error_escapes_name_in_path() {
        let path = PathBuf::from("/run/libvirt/qemu/\u{1b}[2J.xml");
        let error = LibvirtError::Status { path, error: io::ErrorKind::PermissionDenied.into() };
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }

    #[test]
    fn virsh_runs_in_root_directory_with_fixed_path() {
        let domain = Domain { uri: "qemu:///system", uuid: "x".into() };
        let command = virsh(Path::new("/usr/bin/virsh"), &domain, "info");
        let command = command.as_std();
        assert_eq!(command.get_current_dir(), Some(Path::new("/")));
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap();
        assert_eq!(path, "/usr/bin:/usr/local/bin:/bin");
        // The `Debug` of a command that inherits nothing.
        assert!(format!("{command:?}").contains("env -i"), "{command:?}");
    }

    proptest! {
        #[test]
        fn uuid_of_any_status_does_not_panic(text in any::<String>()) {
            uuid_of(1, &text);
            uuid_of(1, &format!("<domstatus pid='1'>{text}<domain {text}<uuid>{text}"));
        }
    }
}
