//! One process as `/proc` shows it: its open files, its threads, its command line. All of that is
//! chosen by whoever runs it, so every reading is bounded.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Longest command line that is read, bytes. Linux allows more (`bprm_stack_limits` in fs/exec.c);
/// libvirt's longest have some 20 kB.
const LONGEST_LINE: usize = 1 << 20;

/// More than the 15 bytes that a thread's name has (TASK_COMM_LEN).
const LONGEST_NAME: usize = 64;

/// A process, by its directory. It may have ended.
pub(super) struct Process {
    /// Process id.
    pub pid: u32,
    path: PathBuf,
}

impl Process {
    /// One process of the `/proc` that is mounted at `proc`.
    pub fn new(proc: &Path, pid: u32) -> Self {
        Self { pid, path: proc.join(pid.to_string()) }
    }

    /// All processes.
    pub fn all(proc: &Path) -> io::Result<impl Iterator<Item = Self>> {
        Ok(numbered(proc)?.map(|(pid, path)| Self { pid, path }))
    }

    /// What the open files are, by name; those closed since they were listed are left out.
    pub fn files(&self) -> io::Result<impl Iterator<Item = io::Result<PathBuf>>> {
        let links = numbered(&self.path.join("fd"))?;
        Ok(links.filter_map(|(_, link)| match fs::read_link(link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            target => Some(target),
        }))
    }

    /// The program's file name.
    pub fn program(&self) -> Option<String> {
        let path = fs::read_link(self.path.join("exe")).ok()?;
        let name = path.file_name()?.to_string_lossy();
        // d_path in the kernel's fs/d_path.c: replaced by an update since it was started.
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    }

    /// The command line; what is not UTF-8 is replaced.
    pub fn arguments(&self) -> Vec<String> {
        split(&read(&self.path.join("cmdline"), LONGEST_LINE), LONGEST_LINE)
    }

    /// The name of the process; empty if it has gone.
    pub fn name(&self) -> String {
        comm(&self.path)
    }

    /// Thread ids and names.
    pub fn threads(&self) -> impl Iterator<Item = (u32, String)> {
        let tasks = numbered(&self.path.join("task")).into_iter().flatten();
        tasks.map(|(tid, task)| (tid, comm(&task)))
    }
}

/// The entries of a directory of `/proc` whose names are numbers.
fn numbered(directory: &Path) -> io::Result<impl Iterator<Item = (u32, PathBuf)> + use<>> {
    let entries = fs::read_dir(directory)?.flatten();
    Ok(entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))))
}

fn comm(directory: &Path) -> String {
    let name = read(&directory.join("comm"), LONGEST_NAME);
    // The kernel ends it with a line feed; others in it are the process's own.
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    String::from_utf8_lossy(name).into_owned()
}

/// The beginning of a file; nothing if it can't be read.
fn read(path: &Path, longest: usize) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(file) = File::open(path)
        && file.take(longest as u64).read_to_end(&mut content).is_err()
    {
        content.clear();
    }
    content
}

/// A command line's arguments, each ended by a NUL. One that `longest` has cut is left out: half
/// a name would be another name.
fn split(line: &[u8], longest: usize) -> Vec<String> {
    let line = match line.strip_suffix(b"\0") {
        Some(whole) => whole,
        None if line.is_empty() => return Vec::new(),
        None if line.len() < longest => line,
        None => &line[..line.iter().rposition(|&byte| byte == 0).unwrap_or(0)],
    };
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_may_be_empty_and_unended() {
        assert_eq!(split(b"", 100), [""; 0]);
        assert_eq!(split(b"qemu\0-name\0\0-S\0", 100), ["qemu", "-name", "", "-S"]);
        // A process that has written its own title there.
        assert_eq!(split(b"worker: idle", 100), ["worker: idle"]);
        assert_eq!(split(b"a\xffb\0", 100), ["a\u{fffd}b"]);
    }

    #[test]
    fn an_argument_is_whole_or_not_there() {
        assert_eq!(split(b"qemu\0-name\0long", 15), ["qemu", "-name"]);
        assert_eq!(split(b"qemu\0-name\0lon\0", 15), ["qemu", "-name", "lon"]);
        assert_eq!(split(b"qemu", 4), [""]);
    }
}
