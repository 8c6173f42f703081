//! Files that are shipped, and the packages that `cargo xtask dist` makes of them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A path in `packaging/`, the files that are shipped beside the program.
pub fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging").join(name)
}

/// Packages made from the current sources.
#[derive(Debug)]
pub struct Packages {
    /// Path of the Debian package.
    pub debian: PathBuf,
    /// Path of the tar archive.
    pub archive: PathBuf,
}

impl Packages {
    /// Makes the packages.
    ///
    /// # Errors
    ///
    /// When `cargo xtask dist` fails or does not print the paths of both packages.
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

    /// Directory of the packages.
    ///
    /// # Errors
    ///
    /// When the path of the Debian package has no parent.
    pub fn directory(&self) -> Result<&Path> {
        self.debian.parent().context("a package is in a directory")
    }
}
