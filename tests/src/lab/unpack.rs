//! Files that a lab takes out of Debian packages: a kernel's image and modules, and a static busybox.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    apt::{AptArchive, Suite},
    cache::Workplace,
    error::{DuringIo, LabError, output},
    host::tool,
    kernel::MODULES,
};

/// Unpacks a kernel and copies its image and modules to one directory, whose path it returns.
pub(super) fn kernel(suite: &Suite, release: &str, work: &Workplace) -> Result<PathBuf, LabError> {
    let image = format!("linux-image-{release}");
    let mut packages = vec![image.clone()];
    // Since 7.x the image package is a meta package for these.
    let parts = [format!("linux-binary-{release}"), format!("linux-modules-{release}")];
    packages.extend(suite.depends(&image)?.into_iter().filter(|package| parts.contains(package)));

    let tree = work.path("tree");
    suite.unpack(&packages, &tree)?;
    let ready = work.path("kernel");
    fs::create_dir(&ready).during(|| format!("create {}", ready.display()))?;
    let missing = |what: &str| LabError::MissingFile {
        what: format!("{what} in {}", packages.join(" ")),
        hint: "choose another kernel version".to_owned(),
    };

    let vmlinuz =
        find(&tree, &|name| name.starts_with("vmlinuz")).ok_or_else(|| missing("vmlinuz"))?;
    fs::copy(&vmlinuz, ready.join("vmlinuz")).during(|| format!("copy {}", vmlinuz.display()))?;
    for module in MODULES {
        let file = format!("{module}.ko");
        let packed = find(&tree, &|name| name == file || name.starts_with(&format!("{file}.")))
            .ok_or_else(|| missing(&file))?;
        let plain = uncompressed(&packed)?;
        fs::write(ready.join(&file), plain).during(|| format!("write {file}"))?;
    }
    Ok(ready)
}

/// First file in a tree whose name matches.
fn find(dir: &Path, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_symlink() {
            None
        } else if path.is_dir() {
            find(&path, fits)
        } else {
            path.file_name().and_then(|name| name.to_str()).is_some_and(fits).then_some(path)
        }
    })
}

/// Contents of a module, uncompressed: newer releases compress them, which busybox's insmod does not support.
fn uncompressed(path: &Path) -> Result<Vec<u8>, LabError> {
    let (program, package) = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        Some("gz") => ("gzip", "gzip"),
        _ => return fs::read(path).during(|| format!("read {}", path.display())),
    };
    output(Command::new(tool(program, package)?).arg("-dc").arg(path))
}

/// Path of a static busybox, downloaded on first use. It is the shell of a lab.
pub(super) fn busybox(cache: &Path) -> Result<PathBuf, LabError> {
    let place = cache.join("busybox");
    if place.is_file() {
        return Ok(place);
    }
    let work = Workplace::enter(cache)?;
    if place.is_file() {
        return Ok(place);
    }
    let suite = AptArchive::of_this_machine()?.own(cache);
    suite.update()?;
    let tree = work.path("tree");
    suite.unpack(&["busybox-static".to_owned()], &tree)?;
    let busybox = find(&tree, &|name| name == "busybox").ok_or_else(|| {
        let hint = "choose another Debian suite".to_owned();
        LabError::MissingFile { what: "busybox in busybox-static".to_owned(), hint }
    })?;
    work.finish(&busybox, &place)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpack_finds_files_by_name_but_not_through_symlinks() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("kvm.ko.xz"), "").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("a/link")).unwrap();
        let found = find(dir.path(), &|name| name.starts_with("kvm.ko"));
        assert_eq!(found, Some(deep.join("kvm.ko.xz")));
        assert_eq!(find(dir.path(), &|name| name == "passwd"), None);
    }

    #[test]
    fn unpack_uncompresses_modules() {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("kvm.ko");
        fs::write(&module, "module").unwrap();
        assert_eq!(uncompressed(&module).unwrap(), b"module");
        assert!(Command::new("gzip").arg(&module).status().unwrap().success());
        assert_eq!(uncompressed(&dir.path().join("kvm.ko.gz")).unwrap(), b"module");
    }
}
