//! Programs that only root can replace. `PATH` is not used: with "." or a writable directory in it, another user would
//! choose what root runs.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Directories that are searched, in this order.
pub(super) const DIRECTORIES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/bin"];

/// Path of a program in [`DIRECTORIES`], without links, if only root can write it and all directories on the way.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().find_map(|directory| trusted(&Path::new(directory).join(name), 0))
}

/// The file that a path leads to, if it can be executed and the path, with and without its links, is only written by
/// root and `owner`.
fn trusted(path: &Path, owner: u32) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&real).ok()?;
    let is_program = metadata.is_file() && metadata.mode() & 0o111 != 0;
    let is_safe = |path: &Path| path.ancestors().all(|part| is_written_by(part, owner));
    (is_program && is_safe(&real) && path.parent().is_some_and(is_safe)).then_some(real)
}

/// Whether only root and `owner` can write this file or directory. A group of root has no other members.
fn is_written_by(path: &Path, owner: u32) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let others = if metadata.gid() == 0 { 0o002 } else { 0o022 };
    [0, owner].contains(&metadata.uid()) && metadata.mode() & others == 0
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn program_of_root_is_found_by_absolute_path() {
        let shell = program("sh").unwrap();
        assert!(shell.is_absolute() && shell.is_file(), "{shell:?}");
        assert_eq!(program("no-such-program"), None);
        assert_eq!(program("../../tmp"), None);
    }

    /// Below `target`, as /tmp can be written by all.
    #[test]
    fn program_that_others_can_write_is_refused() {
        let target = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let Ok(directory) = tempfile::tempdir_in(target) else { return };
        let us = rustix::process::geteuid().as_raw();
        let set =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let (bin, file) = (directory.path().join("bin"), directory.path().join("bin/virsh"));
        fs::create_dir(&bin).unwrap();
        fs::write(&file, "").unwrap();
        set(&bin, 0o755);
        set(&file, 0o755);
        if !directory.path().ancestors().all(|part| is_written_by(part, us)) {
            // The build directory itself is in a place that others can write, such as /tmp.
            assert_eq!(trusted(&file, us), None);
            assert!(is_written_by(&file, us) && is_written_by(&bin, us));
        } else {
            assert!(trusted(&file, us).is_some());
        }
        set(&file, 0o757);
        assert!(!is_written_by(&file, us) && trusted(&file, us).is_none());
        set(&file, 0o755);
        set(&bin, 0o777);
        assert!(!is_written_by(&bin, us) && trusted(&file, us).is_none());
        // Through a link in a directory that others can write, or to a file there.
        symlink("/bin/sh", bin.join("link")).unwrap();
        assert_eq!(trusted(&bin.join("link"), us), None);
    }
}
