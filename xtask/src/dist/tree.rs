//! Paths of a package's files below its prefix.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use xtask::tool::{root, run, stdout};

/// Files, and their directories in the package.
const FILES: &[(&str, &str)] = &[
    ("packaging/systemd/vmexit.service", "lib/systemd/system"),
    ("packaging/prometheus/scrape.yml", "share/vmexit/prometheus"),
    ("packaging/prometheus/vmexit.rules.yml", "share/vmexit/prometheus"),
    ("packaging/grafana/vmexit.json", "share/vmexit/grafana"),
    ("packaging/debian/copyright", "share/doc/vmexit"),
    ("README.md", "share/doc/vmexit"),
    ("SECURITY.md", "share/doc/vmexit"),
    ("LICENSE-APACHE", "share/licenses/vmexit"),
    ("LICENSE-GPL2", "share/licenses/vmexit"),
    ("LICENSE-MIT", "share/licenses/vmexit"),
    // glibc is in the program.
    ("/usr/share/common-licenses/LGPL-2.1", "share/licenses/vmexit"),
];

/// Shells, and the paths at which they find completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "share/bash-completion/completions/vmexit"),
    ("fish", "share/fish/vendor_completions.d/vmexit.fish"),
    ("zsh", "share/zsh/site-functions/_vmexit"),
];

/// Copies the files to their paths in an empty directory.
///
/// # Errors
///
/// A file can't be read or written, or the program fails to write its completions or manual pages.
pub(super) fn install(program: &Path, tree: &Path) -> Result<()> {
    copy(program, &tree.join("bin/vmexit"), 0o755)?;
    for (source, directory) in FILES {
        let source = root().join(source);
        let name = source.file_name().context("a file has a name")?;
        copy(&source, &tree.join(directory).join(name), 0o644)?;
    }
    for document in fs::read_dir(root().join("docs"))?.flatten().map(|entry| entry.path()) {
        if document.extension().is_some_and(|extension| extension == "md") {
            let name = document.file_name().context("a file has a name")?;
            copy(&document, &tree.join("share/doc/vmexit/docs").join(name), 0o644)?;
        }
    }
    for (shell, path) in COMPLETIONS {
        let script = stdout(Command::new(program).args(["completions", shell]));
        let script = script.with_context(|| format!("vmexit writes no completions for {shell}"))?;
        write(&tree.join(path), script.as_bytes(), 0o644)?;
    }
    let pages = tree.join("share/man/man1");
    fs::create_dir_all(&pages)?;
    run(Command::new(program).arg("man").arg(&pages))
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    write(to, &content, mode)
}

fn write(to: &Path, content: &[u8], mode: u32) -> Result<()> {
    let parent = to.parent().context("a file is in a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    fs::write(to, content).with_context(|| format!("write {}", to.display()))?;
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(to, mode).with_context(|| format!("set the mode of {}", to.display()))
}
