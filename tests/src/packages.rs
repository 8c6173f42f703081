//! What is shipped, and what `cargo xtask dist` makes of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A directory of what is shipped beside the program.
pub fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging").join(name)
}

/// The packages, made from the sources as they are now.
#[derive(Debug)]
pub struct Packages {
    /// The Debian package.
    pub debian: PathBuf,
    /// The archive.
    pub archive: PathBuf,
}

impl Packages {
    /// Makes them.
    pub fn make() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
        let mut dist = Command::new(env!("CARGO"));
        let output = dist.args(["xtask", "dist"]).current_dir(root).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo xtask dist: {said}");
        let made = String::from_utf8(output.stdout)?;
        let package = |ending: &str| {
            let path = made.lines().find(|path| path.ends_with(ending));
            path.map(PathBuf::from).with_context(|| format!("no {ending} among {made}"))
        };
        Ok(Self { debian: package(".deb")?, archive: package(".tar.gz")? })
    }

    /// Where they are.
    pub fn directory(&self) -> Result<&Path> {
        self.debian.parent().context("a package is in a directory")
    }
}
