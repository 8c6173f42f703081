//! Connections to a socket of another process. Paths are resolved in that process's root directory, as it may be in a
//! container.
//!
//! The process chooses the path, and the connection is root's: it must not reach the socket of a third process. So the
//! owner of the file and the listener are checked before a connection is made, and the listener again afterwards.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    thread,
    time::Duration,
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use tokio::{
    net::UnixStream,
    sync::oneshot,
    time::{Instant, timeout_at},
};
use vmexit_core::vm::Address;

use crate::discover;

/// Reason why a socket can't be connected to.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not exist or is not accessible.
    #[error("it can't be reached: {0}")]
    Path(#[source] io::Error),
    /// The path is another kind of file.
    #[error("it is not a socket")]
    NotASocket,
    /// Resolving the path or connecting took too long.
    #[error("it can't be reached within {0:.1?}: its file system does not answer")]
    Timeout(Duration),
    /// The socket's queue of connections is full.
    #[error(
        "another program is connected, and more are waiting: a QMP socket serves one at a time"
    )]
    Busy,
    /// No process accepts connections.
    #[error("it does not accept connections: {0}")]
    Connect(#[source] io::Error),
    /// The process does not listen there, or the listener can't be told.
    #[error("it is not the VM's: process {0} does not listen there")]
    NotListening(u32),
    /// The socket's file belongs to another user than the process.
    #[error("it is not the VM's: its file belongs to user {0}, whom process {1} does not run as")]
    OtherUser(u32, u32),
    /// Another process listens; its ID, if it is visible.
    #[error("it is not the VM's: {}", match .0 {
        Some(pid) => format!("process {pid} listens there"),
        None => "a process that can't be seen listens there".to_owned(),
    })]
    Foreign(Option<i32>),
}

/// Connects to a socket on which process `pid` itself listens: a VMM controls its command line and could name the
/// socket of another one. [`Address::Here`] comes from this program's user and is not checked.
///
/// # Errors
/// The socket can't be found or connected to in time, or another process listens.
pub(super) async fn connect(
    pid: u32,
    address: &Address,
    within: Duration,
) -> Result<UnixStream, SocketError> {
    let deadline = Instant::now() + within;
    let connected = async {
        match address {
            Address::Path(path) => {
                let path = path.clone();
                let socket = in_thread(move || check(pid, &path)).await?;
                // By descriptor: the same file that was checked, and never too long for an address.
                UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
            }
            Address::Abstract(name) => {
                // The form of /proc/net/unix.
                let listed = format!("@{}", name.replace('\0', "@"));
                // The name is one of this network namespace, whatever namespace the process is in.
                in_thread(move || check_listener(pid, listed.as_bytes(), "self")).await?;
                UnixStream::connect(format!("\0{name}")).await
            }
            Address::Here(path) => UnixStream::connect(path).await,
        }
        .map_err(|error| match error.kind() {
            // AF_UNIX has no other answer to a full queue (`unix_stream_connect`,
            // net/unix/af_unix.c).
            io::ErrorKind::WouldBlock => SocketError::Busy,
            _ => SocketError::Connect(error),
        })
    };
    let stream =
        timeout_at(deadline, connected).await.map_err(|_| SocketError::Timeout(within))??;
    if let Address::Here(_) = address {
        return Ok(stream);
    }
    // The process that called listen() (`init_peercred`, net/unix/af_unix.c); with `-daemonize` QEMU forks before
    // that.
    let listener = stream.peer_cred().map_err(SocketError::Connect)?.pid();
    match listener {
        Some(listener) if u32::try_from(listener) == Ok(pid) => Ok(stream),
        other => Err(SocketError::Foreign(other.filter(|&pid| pid > 0))),
    }
}

/// Runs a check in a thread of its own that may never end, as a path may be on a file system that hangs.
async fn in_thread<T: Send + 'static>(
    check: impl FnOnce() -> Result<T, SocketError> + Send + 'static,
) -> Result<T, SocketError> {
    let (answer, checked) = oneshot::channel();
    let run = move || {
        // After a timeout the receiver is gone, and an opened file is closed.
        let _ = answer.send(check());
    };
    thread::Builder::new().name("socket-path".into()).spawn(run).map_err(SocketError::Path)?;
    checked.await.unwrap_or_else(|_| Err(SocketError::Path(io::ErrorKind::Interrupted.into())))
}

/// Opens the file of a socket without connecting, and checks whose it is.
///
/// The table of sockets has paths as they were bound, so it does not tell whether the file is still that of the
/// process's socket: a link may have taken its place. That the file's owner is the process's user leaves only sockets to
/// which the owner of the VM could connect without vmexit.
fn check(pid: u32, path: &Path) -> Result<OwnedFd, SocketError> {
    let socket = look_up(pid, path)?;
    let owner = fstat(&socket).map_err(|error| SocketError::Path(error.into()))?.st_uid;
    if !discover::users(pid).map_err(SocketError::Path)?.contains(&owner) {
        return Err(SocketError::OtherUser(owner, pid));
    }
    check_listener(pid, path.as_os_str().as_bytes(), &pid.to_string())?;
    Ok(socket)
}

fn check_listener(pid: u32, name: &[u8], table: &str) -> Result<(), SocketError> {
    match discover::listens(pid, name, table) {
        Ok(true) => Ok(()),
        Ok(false) => Err(SocketError::NotListening(pid)),
        Err(error) => Err(SocketError::Path(error)),
    }
}

fn look_up(pid: u32, path: &Path) -> Result<OwnedFd, SocketError> {
    // Absolute links are resolved in the process's root, such as /var/run -> /run. A relative path starts at the working
    // directory, which can't be the root, as `..` may lead out of it.
    let (start, resolve) = if path.is_absolute() {
        ("root", ResolveFlags::IN_ROOT)
    } else {
        ("cwd", ResolveFlags::NO_MAGICLINKS)
    };
    let found = open(
        format!("/proc/{pid}/{start}"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .and_then(|start| openat2(start, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve))
    .and_then(|socket| Ok((FileType::from_raw_mode(fstat(socket.as_fd())?.st_mode), socket)));
    match found {
        Ok((FileType::Socket, socket)) => Ok(socket),
        Ok(_) => Err(SocketError::NotASocket),
        Err(error) => Err(SocketError::Path(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
        process,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn to(pid: u32, path: &Path) -> Result<UnixStream, SocketError> {
        connect(pid, &Address::Path(path.to_owned()), PATIENCE).await
    }

    #[tokio::test]
    async fn connect_to_socket_of_another_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        to(process::id(), &path).await.unwrap();
        // A process with the same root and user, which does not listen.
        let child = process::Command::new("sleep").arg("9").spawn();
        let mut child = child.unwrap();
        let refused = to(child.id(), &path).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let says = refused.unwrap_err().to_string();
        assert_eq!(
            says,
            format!("it is not the VM's: process {} does not listen there", child.id())
        );
    }

    /// A connection, even one that says nothing, can do something to a service.
    #[tokio::test]
    async fn socket_of_another_process_sees_no_connection() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut child = process::Command::new("sleep").arg("9").spawn().unwrap();
        to(child.id(), &path).await.unwrap_err();
        // A socket that was moved away, with a link to another one in its place.
        let (ours, moved) = (directory.path().join("ours"), directory.path().join("moved"));
        let own = UnixListener::bind(&ours).unwrap();
        fs::rename(&ours, &moved).unwrap();
        let error = to(process::id(), &moved).await.unwrap_err();
        assert!(matches!(error, SocketError::NotListening(_)), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(own);
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn abstract_socket_needs_to_be_the_process_s_own() {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
        let name = format!("vmexit-test-{}\0x", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let mut child = process::Command::new("sleep").arg("9").spawn().unwrap();
        let address = Address::Abstract(name);
        connect(process::id(), &address, PATIENCE).await.unwrap();
        let error = connect(child.id(), &address, PATIENCE).await.unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(error, SocketError::NotListening(_)), "{error}");
    }

    #[tokio::test]
    async fn connect_follows_links_and_rejects_other_files() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(200));
        fs::create_dir(&long).unwrap();
        symlink(&long, directory.path().join("link")).unwrap();
        let here = directory.path().join("link/socket");
        let _listener = UnixListener::bind(&here).unwrap();
        to(process::id(), &here).await.unwrap();
        let error = to(process::id(), &long).await.unwrap_err();
        assert!(matches!(error, SocketError::NotASocket), "{error}");
        symlink("loop", directory.path().join("loop")).unwrap();
        for missing in ["none", "loop", "link/socket/x"] {
            let error = to(process::id(), &directory.path().join(missing)).await.unwrap_err();
            assert!(matches!(error, SocketError::Path(_)), "{missing}: {error}");
        }
    }

    #[tokio::test]
    async fn connect_with_full_queue_fails_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match to(process::id(), &path).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SocketError::Busy), "{error}");
        assert!(!waiting.is_empty());
        drop(listener);
        let error = to(process::id(), &path).await.unwrap_err();
        assert!(matches!(error, SocketError::NotListening(_)), "{error}");
    }
}
