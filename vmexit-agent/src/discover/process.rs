//! A process in `/proc`: its open files, threads and command line. Its owner controls all of them, so every reading is
//! bounded.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Bytes of a command line that are read. Linux allows some megabytes (`bprm_stack_limits` in fs/exec.c). libvirt's
/// usually have up to 20 kB, and some 600 bytes for each further disk: this is room for 400 disks.
pub const MAX_COMMAND_LINE: usize = 256 << 10;

/// Bytes of a thread name that are read; the kernel's limit is 15 (TASK_COMM_LEN).
const MAX_NAME: usize = 64;

/// Threads of a process whose names are read: twice KVM's limit of vCPUs, as a VMM has other threads too.
const MAX_THREADS: usize = 8192;

/// Directory of a process. The process may have ended.
pub(super) struct Process {
    /// Process ID.
    pub pid: u32,
    path: PathBuf,
}

impl Process {
    /// The process with an ID, in the procfs at `proc`.
    pub fn new(proc: &Path, pid: u32) -> Self {
        Self { pid, path: proc.join(pid.to_string()) }
    }

    /// All processes in the procfs at `proc`.
    ///
    /// # Errors
    /// The directory can't be listed.
    pub fn all(proc: &Path) -> io::Result<impl Iterator<Item = Self>> {
        Ok(numbered(proc)?.map(|(pid, path)| Self { pid, path }))
    }

    /// Link targets of the open files, without those closed meanwhile.
    ///
    /// # Errors
    /// The process's `fd` can't be listed; an item is an error if its link can't be read.
    pub fn files(&self) -> io::Result<impl Iterator<Item = io::Result<PathBuf>>> {
        let links = numbered(&self.path.join("fd"))?;
        Ok(links.filter_map(|(_, link)| match fs::read_link(link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            target => Some(target),
        }))
    }

    /// File name of the program.
    pub fn program(&self) -> Option<String> {
        let path = fs::read_link(self.path.join("exe")).ok()?;
        let name = path.file_name()?.to_string_lossy();
        // Appended by `d_path` (fs/d_path.c) if an update has replaced the program since it was started.
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    }

    /// Arguments of the command line, and whether it is longer than what is read. Bytes that are not UTF-8 are replaced.
    pub fn arguments(&self) -> (Vec<String>, bool) {
        let mut line = read(&self.path.join("cmdline"), MAX_COMMAND_LINE + 1);
        let is_cut = line.len() > MAX_COMMAND_LINE;
        line.truncate(MAX_COMMAND_LINE);
        (split(&line, is_cut), is_cut)
    }

    /// Name of the process; empty if it has ended.
    pub fn name(&self) -> String {
        comm(&self.path)
    }

    /// IDs and names of the threads, of the first ones if there are very many.
    pub fn threads(&self) -> impl Iterator<Item = (u32, String)> {
        let tasks = numbered(&self.path.join("task")).into_iter().flatten();
        tasks.take(MAX_THREADS).map(|(tid, task)| (tid, comm(&task)))
    }
}

/// Entries of a directory whose names are numbers.
fn numbered(directory: &Path) -> io::Result<impl Iterator<Item = (u32, PathBuf)> + use<>> {
    let entries = fs::read_dir(directory)?.flatten();
    Ok(entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))))
}

/// Name of a process or thread.
fn comm(directory: &Path) -> String {
    let name = read(&directory.join("comm"), MAX_NAME);
    // The kernel appends one line feed; the name itself may contain others.
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    String::from_utf8_lossy(name).into_owned()
}

/// First bytes of a file; empty if it can't be read.
fn read(path: &Path, longest: usize) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(file) = File::open(path)
        && file.take(longest as u64).read_to_end(&mut content).is_err()
    {
        content.clear();
    }
    content
}

/// Splits a command line, in which a NUL ends each argument. The last argument of a cut line is left out unless it is
/// whole: part of a name would be another name.
fn split(line: &[u8], is_cut: bool) -> Vec<String> {
    let line = match line.strip_suffix(b"\0") {
        Some(whole) => whole,
        None if line.is_empty() => return Vec::new(),
        None if !is_cut => line,
        None => &line[..line.iter().rposition(|&byte| byte == 0).unwrap_or(0)],
    };
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_accepts_empty_and_unterminated_arguments() {
        assert_eq!(split(b"", false), [""; 0]);
        assert_eq!(split(b"qemu\0-name\0\0-S\0", false), ["qemu", "-name", "", "-S"]);
        // A process that has set its title.
        assert_eq!(split(b"worker: idle", false), ["worker: idle"]);
        assert_eq!(split(b"a\xffb\0", false), ["a\u{fffd}b"]);
    }

    #[test]
    fn split_leaves_out_cut_off_argument() {
        assert_eq!(split(b"qemu\0-name\0long", true), ["qemu", "-name"]);
        assert_eq!(split(b"qemu\0-name\0lon\0", true), ["qemu", "-name", "lon"]);
        assert_eq!(split(b"qemu", true), [""]);
    }
}
