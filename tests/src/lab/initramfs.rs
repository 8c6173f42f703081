//! The lab's root file system: a cpio archive of files of the host and of the caller.
//!
//! Files that are the same in all runs (busybox, QEMU, perf and their libraries) are compressed once and cached. All
//! others are in a second archive without compression.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use cpio::newc::{Builder, ModeFileType, trailer};
use flate2::{Compression, write::GzEncoder};

use super::{
    cache::Workplace,
    error::{DuringIo, LabError},
    host::libraries,
};

/// Contents of a file.
#[derive(Debug)]
enum Content {
    Host(PathBuf),
    Bytes(Vec<u8>),
    Symlink(String),
}

/// Files by path in the lab, without the leading slash.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, (u32, Content)>,
}

impl Tree {
    /// Adds a file of the host, with the host's permissions.
    pub(super) fn host(&mut self, path: &str, host: &Path) -> Result<(), LabError> {
        let mode =
            fs::metadata(host).during(|| format!("read {}", host.display()))?.mode() & 0o7777;
        self.add(path, mode, Content::Host(host.to_owned()))
    }

    /// Adds a file with these contents.
    pub(super) fn bytes(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<(), LabError> {
        self.add(path, mode, Content::Bytes(bytes.to_owned()))
    }

    /// Adds a symbolic link.
    pub(super) fn symlink(&mut self, path: &str, target: &str) -> Result<(), LabError> {
        self.add(path, 0o777, Content::Symlink(target.to_owned()))
    }

    /// Adds a program and its libraries, without those that `beside` has.
    pub(super) fn program(
        &mut self,
        path: &str,
        host: &Path,
        beside: Option<&Self>,
    ) -> Result<(), LabError> {
        self.host(path, host)?;
        for library in libraries(host)? {
            let path = library.display().to_string();
            if !beside.is_some_and(|tree| tree.has(&path)) {
                self.host(&path, &library)?;
            }
        }
        Ok(())
    }

    fn has(&self, path: &str) -> bool {
        self.files.contains_key(path.trim_start_matches('/'))
    }

    fn add(&mut self, path: &str, mode: u32, content: Content) -> Result<(), LabError> {
        let mut parts = Path::new(path).components();
        let absolute = parts.next() == Some(Component::RootDir);
        let names: Option<Vec<&str>> = parts
            .map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        match names {
            Some(names) if absolute && !names.is_empty() => {
                self.files.insert(names.join("/"), (mode, content));
                Ok(())
            }
            _ => Err(LabError::GuestPath(path.to_owned())),
        }
    }

    /// Hash of paths and contents. For files of the host, inode, size and time stand for the contents.
    fn key(&self) -> io::Result<u64> {
        let mut hasher = DefaultHasher::new();
        for (path, (mode, content)) in &self.files {
            (path, mode).hash(&mut hasher);
            match content {
                Content::Bytes(bytes) => bytes.hash(&mut hasher),
                Content::Symlink(target) => target.hash(&mut hasher),
                Content::Host(host) => {
                    let meta = fs::metadata(host)?;
                    let time = (meta.mtime(), meta.mtime_nsec());
                    (host, meta.ino(), meta.size(), time).hash(&mut hasher);
                }
            }
        }
        Ok(hasher.finish())
    }

    /// Writes the archive. As the kernel needs it, each directory comes once and before its contents.
    pub(super) fn write<W: Write>(&self, mut to: W) -> io::Result<W> {
        let mut directories: Vec<&str> = Vec::new();
        for path in self.files.keys() {
            for (end, _) in path.match_indices('/') {
                if !directories.contains(&&path[..end]) {
                    directories.push(&path[..end]);
                }
            }
        }
        for directory in directories {
            to = entry(to, directory, ModeFileType::Directory, 0o755, &[])?;
        }
        for (path, (mode, content)) in &self.files {
            to = match content {
                Content::Host(host) => {
                    entry(to, path, ModeFileType::Regular, *mode, &fs::read(host)?)?
                }
                Content::Bytes(bytes) => entry(to, path, ModeFileType::Regular, *mode, bytes)?,
                Content::Symlink(target) => {
                    entry(to, path, ModeFileType::Symlink, *mode, target.as_bytes())?
                }
            };
        }
        trailer(to)
    }

    /// Writes the compressed archive into `cache`, unless it is there, and returns its path.
    pub(super) fn cached(&self, cache: &Path) -> Result<PathBuf, LabError> {
        let key = self.key().during(|| "read the files of the lab".to_owned())?;
        let place = cache.join(format!("base-{key:016x}.cpio.gz"));
        if place.is_file() {
            return Ok(place);
        }
        let work = Workplace::enter(cache)?;
        if !place.is_file() {
            let made = work.path("base");
            let write = || {
                let gzip =
                    GzEncoder::new(BufWriter::new(File::create(&made)?), Compression::fast());
                self.write(gzip)?.finish()?.flush()
            };
            write().during(|| format!("write {}", made.display()))?;
            work.finish(&made, &place)?;
        }
        Ok(place)
    }
}

fn entry<W: Write>(
    to: W,
    path: &str,
    kind: ModeFileType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<W> {
    let size = u32::try_from(bytes.len()).map_err(|_| {
        io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is too large for an initramfs"))
    })?;
    let mut writer = Builder::new(path).mode(mode).set_mode_file_type(kind).write(to, size);
    writer.write_all(bytes)?;
    writer.finish()
}

/// Writes an initramfs of a compressed archive and a tree.
pub(super) fn join(base: &Path, own: &Tree, to: &Path) -> io::Result<()> {
    let mut file = File::create(to)?;
    let size = io::copy(&mut File::open(base)?, &mut file)?;
    // The kernel expects the next archive at a multiple of four bytes.
    file.write_all(&[0; 3][..(size.next_multiple_of(4) - size) as usize])?;
    own.write(BufWriter::new(file))?.flush()
}

/// Writes an initramfs of two trees without compression, which would take an emulated CPU long to undo.
pub(super) fn join_plain(base: &Tree, own: &Tree, to: &Path) -> io::Result<()> {
    own.write(base.write(BufWriter::new(File::create(to)?))?)?.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    /// Path, mode and contents of every entry of an archive.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = archive;
        let mut entries = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            entries.push((reader.entry().name().to_owned(), reader.entry().mode(), bytes));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn initramfs_directories_come_once_before_files() {
        let mut tree = Tree::default();
        tree.bytes("/a/b/file", b"one", 0o644).unwrap();
        tree.bytes("/a/other", b"", 0o600).unwrap();
        tree.symlink("/bin/sh", "busybox").unwrap();
        let got = entries(&tree.write(Vec::new()).unwrap());
        let expected = [
            ("a", 0o040_755, ""),
            ("a/b", 0o040_755, ""),
            ("bin", 0o040_755, ""),
            ("a/b/file", 0o100_644, "one"),
            ("a/other", 0o100_600, ""),
            ("bin/sh", 0o120_777, "busybox"),
        ];
        let expected = expected.map(|(path, mode, text)| (path.to_owned(), mode, text.into()));
        assert_eq!(got, expected);
    }

    #[test]
    fn initramfs_second_archive_is_aligned() {
        let dir = tempfile::tempdir().unwrap();
        let (base, joined) = (dir.path().join("base"), dir.path().join("joined"));
        let mut tree = Tree::default();
        tree.bytes("/x", b"y", 0o644).unwrap();
        for size in 1..=5_usize {
            fs::write(&base, vec![b'z'; size]).unwrap();
            join(&base, &tree, &joined).unwrap();
            let bytes = fs::read(&joined).unwrap();
            assert_eq!(entries(&bytes[size.next_multiple_of(4)..]).len(), 1, "{size}");
        }
    }

    #[test]
    fn initramfs_paths_must_be_absolute_and_normal() {
        let mut tree = Tree::default();
        for path in ["relative", "/", "/../etc/passwd", "/a/../b"] {
            assert!(matches!(tree.bytes(path, b"", 0o644), Err(LabError::GuestPath(_))), "{path}");
        }
    }

    #[test]
    fn initramfs_cache_key_depends_on_contents() {
        let key = |bytes: &[u8]| {
            let mut tree = Tree::default();
            tree.bytes("/x", bytes, 0o644).unwrap();
            tree.key().unwrap()
        };
        assert_eq!(key(b"a"), key(b"a"));
        assert_ne!(key(b"a"), key(b"b"));
    }
}
