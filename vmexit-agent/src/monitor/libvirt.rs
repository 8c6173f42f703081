//! Asking through libvirt, to which a domain's monitor belongs: `virsh qemu-monitor-command`.
//!
//! Which domain a process is, libvirt's own files say; its command line is the VMM's to change.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::{Instant, timeout_at},
};
use vmexit_core::escape::safe;

/// Bytes of a domain's status; those of large ones have some 100 kB.
const LONGEST_STATUS: u64 = 4 << 20;

/// Bytes of an answer, as of one by QMP.
const LONGEST_ANSWER: u64 = 8 << 20;

/// Bytes that are read of what virsh says when it fails.
const LONGEST_COMPLAINT: u64 = 4 << 10;

/// Why libvirt did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtError {
    /// The caller does not want domains to be marked.
    #[error(
        "not asked, as libvirt marks a domain as tainted (custom-monitor) when its monitor is used"
    )]
    Left,
    /// No libvirt that we may ask has started this process.
    #[error(
        "neither this host's libvirt nor this user's has process {0} as that domain: it may be in a \
         container or another user's session"
    )]
    Unknown(u32),
    /// What libvirt keeps of the domain can't be read.
    #[error("{} can't be read: {error}", path.display())]
    Status {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// virsh can't be run.
    #[error("virsh can't be run: {0}; install libvirt's clients")]
    NoVirsh(#[source] io::Error),
    /// No answer in time.
    #[error("libvirt gave no answer within {0:.1?}")]
    NoAnswer(Duration),
    /// More than we take, bytes.
    #[error("virsh printed more than {0} bytes")]
    TooLong(u64),
    /// Not text.
    #[error("what virsh printed is not text")]
    Garbage,
    /// virsh failed; what it said, safe to print.
    #[error("virsh failed: {0}")]
    Failed(String),
}

/// A domain that runs.
#[derive(Debug, PartialEq, Eq)]
struct Domain {
    uri: &'static str,
    /// Of libvirt's writing. Never its name: virsh takes one that is a number for an id
    /// (`virshLookupDomainInternal`, libvirt's `tools/virsh-util-domain.c`).
    uuid: String,
}

/// Puts one `command` to the human monitor of the domain `name`, which is process `pid`; the text that
/// it printed.
pub(super) async fn human(
    pid: u32,
    name: &str,
    command: &str,
    within: Duration,
) -> Result<String, LibvirtError> {
    let deadline = Instant::now() + within;
    let answer = async {
        let domain = Domain::find(pid, name).await?;
        run(virsh(&domain, command)).await
    };
    timeout_at(deadline, answer).await.map_err(|_| LibvirtError::NoAnswer(within))?
}

impl Domain {
    async fn find(pid: u32, name: &str) -> Result<Self, LibvirtError> {
        // Not a name that libvirt would have taken (`virDomainDefPostParseCommon`).
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

/// Where libvirt keeps the status of running domains, the system's and this user's session
/// (`virQEMUDriverConfigNew`, `src/qemu/qemu_conf.c`).
fn state_directories() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let session = env::var_os("XDG_RUNTIME_DIR")
        .map(|directory| ("qemu:///session", Path::new(&directory).join("libvirt/qemu/run")));
    [("qemu:///system", PathBuf::from("/run/libvirt/qemu"))].into_iter().chain(session)
}

async fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path).await?.take(LONGEST_STATUS).read_to_string(&mut text).await?;
    Ok(text)
}

/// The domain's UUID, if its process is this one (`virDomainObjFormat`, `src/conf/domain_conf.c`):
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

fn virsh(domain: &Domain, command: &str) -> Command {
    let mut virsh = Command::new("virsh");
    virsh.args(["--quiet", "--connect", domain.uri, "qemu-monitor-command", "--hmp"]);
    virsh.arg(format!("--domain={}", domain.uuid)).args(["--cmd", command]);
    // A daemon that has ended is not ours to start (libvirt's `src/remote/remote_sockets.c`).
    virsh.env("LIBVIRT_AUTOSTART", "0").env("LC_ALL", "C");
    virsh
}

async fn run(mut virsh: Command) -> Result<String, LibvirtError> {
    virsh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = virsh.spawn().map_err(LibvirtError::NoVirsh)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (printed, said) =
        tokio::join!(start_of(stdout, LONGEST_ANSWER + 1), start_of(stderr, LONGEST_COMPLAINT));
    // A program that has more to say ends by the closed pipe, or by the caller's time-out.
    if printed.len() as u64 > LONGEST_ANSWER {
        return Err(LibvirtError::TooLong(LONGEST_ANSWER));
    }
    let status = child.wait().await.map_err(LibvirtError::NoVirsh)?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        let said = said.trim().trim_start_matches("error: ");
        let said = said.lines().next().map_or_else(|| status.to_string(), safe);
        return Err(LibvirtError::Failed(said));
    }
    String::from_utf8(printed).map_err(|_| LibvirtError::Garbage)
}

/// What a pipe has, up to this many bytes. One that breaks has no more.
async fn start_of(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
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

    /// As libvirt 9.0 writes it, shortened.
    const STATUS: &str = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n\
        <domstatus state='running' reason='booted' pid='1234'>\n  <taint flag='custom-monitor'/>\n  \
        <monitor path='/var/lib/libvirt/qemu/domain-1-5/monitor.sock' type='unix'/>\n  \
        <domain type='kvm' id='1'>\n    <name>5</name>\n    \
        <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n  </domain>\n</domstatus>\n";

    #[test]
    fn the_domain_of_a_process() {
        assert_eq!(uuid_of(1234, STATUS), Some("c7a5fdbd-edaf-9455-926a-d65c16db1809"));
        assert_eq!(uuid_of(123, STATUS), None);
        assert_eq!(uuid_of(1234, &STATUS.replace("c7a5", "--x ")), None);
        for end in 0..STATUS.find("</uuid>").unwrap() {
            assert_eq!(uuid_of(1234, &STATUS[..end]), None);
        }
    }

    #[tokio::test]
    async fn names_are_no_paths() {
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
    async fn what_a_program_prints() {
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
    async fn a_program_nobody_waits_for_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let line = format!("echo $$ > {}; exec sleep 60", file.display());
        let written = async {
            loop {
                match std::fs::read_to_string(&file) {
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
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begun.elapsed() < Duration::from_secs(10), "it still runs");
        }
    }

    proptest! {
        #[test]
        fn any_status_is_read(text in any::<String>()) {
            uuid_of(1, &text);
            uuid_of(1, &format!("<domstatus pid='1'>{text}<domain {text}<uuid>{text}"));
        }
    }
}
