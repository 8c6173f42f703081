//! Sources of Rust's core library for the pinned toolchain: from rustup; else from the Debian package of exactly this
//! version; else from the archive in `VMEXIT_RUST_SRC`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    labs,
    tool::{root, run, rust_library},
};

/// Environment variable with the path of the archive.
const ARCHIVE: &str = "VMEXIT_RUST_SRC";

/// Fills the toolchain's `library` directory from the first source with the right version.
///
/// # Errors
///
/// No source has it.
pub(super) fn ensure() -> Result<()> {
    let version = pinned_version()?;
    let directory = LibraryDirectory::of_toolchain()?;
    if directory.is_filled() {
        return Ok(());
    }
    eprintln!("setup: fetching Rust's sources ({version})");
    let mut failures = Vec::new();
    for (name, fetch) in FETCHERS {
        match fetch(&version, &directory) {
            Ok(()) if directory.is_filled() => return Ok(()),
            Ok(()) => failures.push(format!("{name}: it has no library/core")),
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    bail!(
        "{}\nrun: rustup component add rust-src --toolchain {version}\nor set {ARCHIVE} to a tar archive of \
         Rust {version}'s library directory",
        failures.join("\n")
    )
}

/// Function that fills the directory with the sources of this version.
type Fetcher = fn(&str, &LibraryDirectory) -> Result<()>;

/// Sources in the order of the attempts.
const FETCHERS: &[(&str, Fetcher)] =
    &[("rustup", from_rustup), ("Debian's rust-src", from_debian), (ARCHIVE, from_archive)];

/// Directory in which `-Z build-std` finds the sources.
struct LibraryDirectory {
    library: PathBuf,
}

impl LibraryDirectory {
    fn of_toolchain() -> Result<Self> {
        Ok(Self { library: rust_library()? })
    }

    fn is_filled(&self) -> bool {
        self.library.join("core/src/lib.rs").is_file()
    }

    /// Copies a `library` directory there, under another name until the copy is complete.
    fn fill_from(&self, library: &Path) -> Result<()> {
        let parent = self.library.parent().context("a library has a parent directory")?;
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let partial = parent.join("library.partial");
        remove(&partial)?;
        run(Command::new("cp").args(["-r", "--"]).arg(library).arg(&partial))?;
        remove(&self.library)?;
        fs::rename(&partial, &self.library).with_context(|| format!("fill {}", parent.display()))
    }
}

/// Removes a directory, if it exists.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Returns the channel in `rust-toolchain.toml`.
fn pinned_version() -> Result<String> {
    let path = root().join("rust-toolchain.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let channel = text.lines().find_map(|line| line.trim().strip_prefix("channel = "));
    Ok(channel.context("rust-toolchain.toml has no channel")?.trim_matches('"').to_owned())
}

fn from_rustup(version: &str, _directory: &LibraryDirectory) -> Result<()> {
    let mut add = Command::new("rustup");
    add.args(["component", "add", "rust-src", "--toolchain", version]).current_dir(root());
    let output = add.output().context("rustup can't be run")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}", error.trim().lines().last().unwrap_or("it failed"));
    }
    Ok(())
}

fn from_debian(version: &str, directory: &LibraryDirectory) -> Result<()> {
    let unpacked = tempfile::tempdir().context("create a temporary directory")?;
    labs::unpack_package("rust-src", &format!("{version}+"), unpacked.path())?;
    directory.fill_from(&unpacked.path().join(format!("usr/src/rustc-{version}/library")))
}

fn from_archive(_version: &str, directory: &LibraryDirectory) -> Result<()> {
    let archive = env::var_os(ARCHIVE).with_context(|| format!("{ARCHIVE} is not set"))?;
    let unpacked = tempfile::tempdir().context("create a temporary directory")?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(unpacked.path()))?;
    directory.fill_from(&unpacked.path().join("library"))
}
