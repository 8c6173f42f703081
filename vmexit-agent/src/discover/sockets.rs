//! Listening UNIX sockets of a process, told without connecting to them.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use super::{MAX_FILES, PROC, process::Process};

/// Bytes of a table of sockets that are read: room for some 200,000 sockets.
const MAX_TABLE: u64 = 16 << 20;

/// `__SO_ACCEPTCON` (include/uapi/linux/net.h): the socket accepts connections.
const ACCEPTS: u64 = 1 << 16;

/// Whether a process, and no other, listens on the UNIX socket that was bound to this name: a path as it was given to
/// bind(2), or an abstract name with `@` for each null byte. `table` is the process whose network namespace is searched,
/// `self` for this one.
///
/// # Errors
/// The table or the process's open files can't be read.
pub(crate) fn listens(pid: u32, name: &[u8], table: &str) -> io::Result<bool> {
    let path = Path::new(PROC).join(table).join("net/unix");
    let inodes = listening(BufReader::new(File::open(path)?.take(MAX_TABLE)), name)?;
    // Names may contain line feeds, so lines can be forged, but a real line can't be removed.
    let [inode] = inodes[..] else { return Ok(false) };
    let wanted = format!("socket:[{inode}]");
    let process = Process::new(Path::new(PROC), pid);
    let mut files = process.files()?.take(MAX_FILES).flatten();
    Ok(files.any(|file| file.as_os_str() == wanted.as_str()))
}

/// User IDs of a process: real, effective, saved, and that of its files.
///
/// # Errors
/// The process has ended.
pub(crate) fn users(pid: u32) -> io::Result<Vec<u32>> {
    let status = fs::read_to_string(Path::new(PROC).join(pid.to_string()).join("status"))?;
    // The kernel escapes line feeds in the name, the only text (`proc_task_name`, fs/proc/array.c).
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    Ok(line.split_ascii_whitespace().filter_map(|user| user.parse().ok()).collect())
}

/// Inodes of the listening sockets with this name in the table of a network namespace (`unix_seq_show`,
/// net/unix/af_unix.c).
fn listening(mut table: impl BufRead, name: &[u8]) -> io::Result<Vec<u64>> {
    let (mut inodes, mut line) = (Vec::new(), Vec::new());
    while table.read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        inodes.extend(inode(text, name));
        line.clear();
    }
    Ok(inodes)
}

/// Inode of a line with this name: `Num: RefCount Protocol Flags Type St Inode Path`.
fn inode(line: &[u8], name: &[u8]) -> Option<u64> {
    let before = line.strip_suffix(name)?.strip_suffix(b" ")?;
    let before = std::str::from_utf8(before).ok()?;
    let mut fields = before.split_ascii_whitespace();
    let flags = u64::from_str_radix(fields.nth(3)?, 16).ok()?;
    let inode = fields.nth(2)?.parse().ok()?;
    // A longer name that ends like this one has further fields.
    (flags & ACCEPTS != 0 && fields.next().is_none()).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const TABLE: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 21 /run/a b\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 22 /run/a b\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 123456 @q@@\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 24\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 25 /run/c\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 26 /run/c\n\
        0000000000000000: 00000002 00000000 00010000 0001 01";

    #[test]
    fn listening_sockets_are_found_by_whole_name() {
        let of = |name: &str| listening(TABLE, name.as_bytes()).unwrap();
        assert_eq!(of("/run/a b"), [21]);
        assert_eq!(of("@q@@"), [123_456]);
        assert_eq!(of("/run/c"), [25, 26]);
        for none in ["b", "q@@", "/run/a", "", " ", "21"] {
            assert_eq!(of(none), [0; 0], "{none}");
        }
    }

    #[test]
    fn users_of_process_are_its_four_ids() {
        let user = rustix::process::getuid().as_raw();
        assert_eq!(users(std::process::id()).unwrap(), [user; 4]);
        assert!(users(u32::MAX).is_err());
    }

    #[test]
    fn process_listens_only_on_its_own_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let name = path.as_os_str().as_encoded_bytes();
        assert!(listens(std::process::id(), name, "self").unwrap());
        // The parent is cargo, or a shell.
        let parent = std::os::unix::process::parent_id();
        assert!(!listens(parent, name, "self").unwrap_or_default());
        drop(listener);
        assert!(!listens(std::process::id(), name, "self").unwrap());
    }
}
