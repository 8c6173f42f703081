//! Files that are written where others may write too. Nothing here follows a link, opens a device or
//! leaves an incomplete file behind.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, linkat, lstat, major, minor,
        mkdirat, open, openat, renameat, statat, unlinkat,
    },
    io::Errno,
    process::{getegid, geteuid},
};

/// Mode of all files: names of VMs are confidential.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// End of the name of an incomplete file, where the file system has no files without a name.
const PARTIAL: &str = ".partial";

/// A directory, by descriptor: later changes of its path have no effect.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    /// It does not exist, or is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // To write files the directory need not be readable.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: open(path, flags, Mode::empty())? })
    }

    /// Opens a directory that nobody else may write to; creates it for the owner alone if it is missing.
    /// Its last component is no link, unless only root and this user can change it: systemd makes one for
    /// the state of a service with a dynamic user.
    ///
    /// # Errors
    /// Another user owns it or may write to it (`PermissionDenied`), or it can't be created or opened.
    pub fn open_private(path: &Path) -> io::Result<Self> {
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // A path that ends in a slash or a dot would be followed.
        let path: PathBuf = path.components().collect();
        let nofollow = if is_trusted_link(&path)? { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | nofollow;
        let opened = open(&path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => refused(
                "it is no directory, or a link that others could change, which is not followed; name the \
                 directory itself"
                    .into(),
            ),
            error => error.into(),
        })?;
        let directory = Self { fd: opened };
        match directory.others()? {
            None => Ok(directory),
            Some(who) => Err(refused(format!(
                "{who} may write to this directory, and could replace the files in it; use a directory that \
                 belongs to the user of vmexit and has mode 0700"
            ))),
        }
    }

    /// Who else may write to the directory; `None` if nobody but this user and root.
    fn others(&self) -> io::Result<Option<String>> {
        let stat = fstat(&self.fd)?;
        Ok(others(&stat))
    }

    /// Status of a file that is not followed if it is a link; `None` if there is none.
    ///
    /// # Errors
    /// The directory can't be searched.
    fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file of this user, which is created if it is missing; with `new` it must be
    /// missing. Neither links nor FIFOs are opened.
    ///
    /// # Errors
    /// It is something else, or can't be opened.
    pub fn open_file(&self, name: &OsStr, new: bool) -> io::Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC
            | if new { OFlags::EXCL } else { OFlags::empty() };
        let file = match openat(&self.fd, name, flags, PRIVATE) {
            Ok(file) => file,
            Err(Errno::LOOP) => {
                return Err(refused("it is a link, and links are not followed".into()));
            }
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        if !is_regular(&stat) || (stat.st_nlink != 1 && !new) {
            return Err(refused("it is no regular file of its own".into()));
        }
        Ok(File::from(file))
    }

    /// Removes a file; a missing one is no error.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins a file that has its name only when it is complete.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn begin(&self, name: &OsStr) -> io::Result<Unfinished> {
        self.sweep(name)?;
        let directory = self.fd.try_clone()?;
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(&self.fd, ".", nameless, PRIVATE) {
            Ok(file) => Ok(Unfinished { directory, file: file.into(), partial: None }),
            // The file system has none (`man 2 open`).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let partial = partial_name(name);
                let file = self.open_file(&partial, true)?;
                Ok(Unfinished { directory, file, partial: Some(partial) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes incomplete files of this name that a killed vmexit left: regular ones of this user, whose
    /// process has ended.
    fn sweep(&self, name: &OsStr) -> io::Result<()> {
        // A directory that can be written but not read is not swept.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(&self.fd, ".", flags, Mode::empty());
        let Ok(entries) = opened.and_then(Dir::new) else { return Ok(()) };
        for entry in entries.flatten() {
            let found = entry.file_name().to_bytes();
            let Some(found) =
                std::str::from_utf8(found).ok().filter(|found| is_partial(found, name))
            else {
                continue;
            };
            let found = OsStr::new(found);
            let is_ours = |stat: Stat| is_regular(&stat) && stat.st_uid == geteuid().as_raw();
            if self.stat(found)?.is_some_and(is_ours) {
                self.remove(found)?;
            }
        }
        Ok(())
    }
}

/// Whether a path is a link that only root and this user can change.
fn is_trusted_link(path: &Path) -> io::Result<bool> {
    let stat = lstat(path)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let is_owned = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    let parent = || Directory::open(path.parent().unwrap_or(Path::new("")));
    Ok(is_link && is_owned && parent()?.others()?.is_none())
}

/// Who but this user and root may write to a directory with this status.
fn others(stat: &Stat) -> Option<String> {
    let own = geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != own {
        return Some(format!("the user {}", stat.st_uid));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.contains(Mode::WOTH) {
        return Some("every user".into());
    }
    let own_group = stat.st_gid == 0 || stat.st_gid == getegid().as_raw();
    (mode.contains(Mode::WGRP) && !own_group).then(|| format!("the group {}", stat.st_gid))
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn partial_name(name: &OsStr) -> OsString {
    let mut partial = name.to_owned();
    partial.push(format!(".{}{PARTIAL}", std::process::id()));
    partial
}

/// Whether a name is [`partial_name`]'s of a process that has ended.
fn is_partial(found: &str, name: &OsStr) -> bool {
    let pid = name
        .to_str()
        .and_then(|name| found.strip_prefix(name))
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(PARTIAL))
        .filter(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()));
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// A file that is being written.
#[derive(Debug)]
pub struct Unfinished {
    directory: OwnedFd,
    file: File,
    /// Its name meanwhile, where the file system needs one.
    partial: Option<OsString>,
}

impl Unfinished {
    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name, in place of a regular file or a link of that name.
    ///
    /// # Errors
    /// The name can't be made.
    pub fn finish(mut self, name: &OsStr) -> io::Result<()> {
        let partial = match self.partial.take() {
            Some(partial) => partial,
            None => {
                // A name that exists can't be linked over: a second name is renamed to it.
                let partial = partial_name(name);
                let path = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
                linkat(CWD, path, &self.directory, &partial, AtFlags::SYMLINK_FOLLOW)?;
                partial
            }
        };
        self.partial = Some(partial.clone());
        renameat(&self.directory, &partial, &self.directory, name)?;
        self.partial = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // It is swept at the next start if it can't be removed.
            let _ = unlinkat(&self.directory, partial, AtFlags::empty());
        }
    }
}

/// A target that is not replaced but written as it is: a pipe, a terminal, /dev/null.
///
/// # Errors
/// It is a link or another device that is not to be written.
pub fn open_special(path: &Path) -> io::Result<Option<File>> {
    let is_standard = ["/dev/stdout", "/dev/stderr"].iter().any(|known| path == Path::new(known))
        || path.starts_with("/dev/fd")
        || path.starts_with("/proc/self/fd");
    let link = match lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(link.st_mode) {
        FileType::RegularFile => return Ok(None),
        FileType::Symlink if !is_standard => {
            return Err(refused(
                "it is a link, and links are not followed; name the file itself".into(),
            ));
        }
        FileType::BlockDevice | FileType::Directory | FileType::Socket => {
            return Err(refused("it is a device or a directory; name a regular file".into()));
        }
        // Opening some devices has effects of its own: terminals and /dev/null have none.
        FileType::CharacterDevice if !is_null(link.st_rdev) && !is_terminal(link.st_rdev) => {
            return Err(refused("it is a device; name a regular file".into()));
        }
        _ => {}
    }
    let nofollow = if is_standard { OFlags::empty() } else { OFlags::NOFOLLOW };
    let file = open(
        path,
        OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY | nofollow,
        Mode::empty(),
    )?;
    let stat = fstat(&file)?;
    let is_harmless = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => link.st_uid == geteuid().as_raw() || is_standard,
        FileType::CharacterDevice => {
            is_standard || is_null(stat.st_rdev) || is_terminal(stat.st_rdev)
        }
        FileType::RegularFile => is_standard,
        _ => is_standard && FileType::from_raw_mode(stat.st_mode) == FileType::Socket,
    };
    if is_harmless {
        Ok(Some(file.into()))
    } else {
        Err(refused("it is a device, or a pipe of another user; name a regular file".into()))
    }
}

/// Whether a device number is that of /dev/null (Documentation/admin-guide/devices.txt).
fn is_null(device: u64) -> bool {
    (major(device), minor(device)) == (1, 3)
}

/// Whether a device number is that of a terminal: TTYs, consoles, serial lines and pseudoterminals.
fn is_terminal(device: u64) -> bool {
    matches!(major(device), 4 | 5 | 136..=143)
}
