//! `cargo xtask dist`: builds the release files, an archive and a Debian package of the same files. The program in
//! them is static.

mod changelog;
mod crates;
mod licences;
mod sbom;
mod tree;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use xtask::{
    setup::{self, Need},
    tool::{cargo, root, run, rust_library, stdout, target},
};

use self::crates::ShippedCrate;

/// Target of the program. It links glibc statically, which every Debian has, and runs on any supported Linux.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Cargo's profile of the program.
const PROFILE: &str = "shipped";

/// Arguments of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct DistArgs {
    /// Fail unless this is the tag of the version in Cargo.toml and CHANGELOG.md has a section for it, which is
    /// written to target/release-notes.md
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

/// Builds the release files and prints their paths.
///
/// # Errors
///
/// The tag is not this version's, a crate has a licence that is not allowed, or a program that is run fails.
pub(crate) fn dist(args: &DistArgs) -> Result<()> {
    if let Some(tag) = &args.tag {
        let notes = changelog::release_notes(tag)?;
        fs::create_dir_all(target())?;
        fs::write(target().join("release-notes.md"), notes).context("write release-notes.md")?;
    }
    setup::build()?;
    setup::programs(&[Need::Packaging])?;
    let crates = crates::shipped()?;
    licences::check(&crates)?;
    eprintln!("dist: building");
    let tree = build_tree(&build_program(&crates)?, &crates)?;
    let packages = target().join("dist");
    create_empty(&packages)?;
    eprintln!("dist: packing");
    build_archive(&tree, &packages)?;
    build_debian_package(&tree, &packages)?;
    let mut sums = Command::new("sh");
    sums.args(["-c", "sha256sum -- * >SHA256SUMS"]).current_dir(&packages);
    run(&mut sums)?;
    let mut files: Vec<PathBuf> =
        fs::read_dir(&packages)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(())
}

/// Version of the workspace.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Builds the program and returns its path.
fn build_program(crates: &[ShippedCrate]) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "vmexit-agent", "--profile", PROFILE, "--target", TARGET]);
    // Flags in these two would also apply to build scripts and eBPF programs, which have other targets.
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(remap_flags(crates)?);
    build.arg("--config").arg(format!("target.{TARGET}.rustflags={flags:?}"));
    run(&mut build)?;
    Ok(build_directory().join("vmexit"))
}

/// Returns the compiler flags that keep this machine's directories out of the program. The build of the eBPF
/// programs has such flags of its own.
fn remap_flags(crates: &[ShippedCrate]) -> Result<Vec<String>> {
    let registries: BTreeSet<&Path> =
        crates.iter().filter_map(|one| one.directory.parent()).collect();
    let library = rust_library()?;
    let mut places = vec![(root(), "vmexit"), (&library, "library")];
    places.extend(registries.into_iter().map(|registry| (registry, "crates")));
    let flag =
        |(place, name): (&Path, _)| format!("--remap-path-prefix={}={name}", place.display());
    Ok(places.into_iter().map(flag).collect())
}

/// Returns the directory with the program that cargo built.
fn build_directory() -> PathBuf {
    target().join(TARGET).join(PROFILE)
}

/// Fills a directory with all files, each at its path below a prefix such as `/usr/local`, and returns its path.
fn build_tree(program: &Path, crates: &[ShippedCrate]) -> Result<PathBuf> {
    let tree = build_directory().join("tree");
    create_empty(&tree)?;
    tree::install(program, &tree)?;
    let documents = tree.join("share/doc/vmexit");
    for (name, text) in [
        ("third-party.txt", licences::notices(crates)?),
        ("vmexit.cdx.json", sbom::cyclonedx(crates)?),
    ] {
        fs::write(documents.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(tree)
}

/// Creates a directory, or removes its contents.
fn create_empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))
}

/// Packs the tree under a directory named after the version. Owners, order and times do not depend on the build.
fn build_archive(tree: &Path, packages: &Path) -> Result<()> {
    let name = format!("vmexit-{}-x86_64-linux", version());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--mode=u+rw,go+r,go-w").arg(format!("--mtime=@{}", commit_time()?));
    tar.arg(format!("--transform=s,^\\.,{name},")).arg("--file");
    tar.arg(packages.join(format!("{name}.tar.gz"))).arg("--directory").arg(tree).arg(".");
    run(&mut tar)
}

/// Builds the Debian package with debhelper; packaging/debian has the paths of the tree's files.
fn build_debian_package(tree: &Path, packages: &Path) -> Result<()> {
    let sources = build_directory().join("debian-package");
    create_empty(&sources)?;
    run(Command::new("cp").arg("-r").arg(root().join("packaging/debian")).arg(&sources))?;
    let debian = sources.join("debian");
    fs::copy(root().join("packaging/systemd/vmexit.service"), debian.join("vmexit.service"))?;
    fs::write(debian.join("changelog"), changelog::debian()?)?;
    std::os::unix::fs::symlink(tree, sources.join("tree"))?;
    let mut rules = Command::new(debian.join("rules"));
    rules.arg("binary").current_dir(&sources).env("DEB_RULES_REQUIRES_ROOT", "no");
    let output = rules.output().context("debhelper can't be run")?;
    let messages = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&messages));
    // debhelper puts a package beside its source directory.
    let name = format!("vmexit_{}_amd64.deb", version());
    let package = sources.with_file_name(&name);
    fs::rename(&package, packages.join(&name))
        .with_context(|| format!("move {}", package.display()))
}

/// Returns the time of the last commit in seconds since 1970, or `SOURCE_DATE_EPOCH` for sources without git.
fn commit_time() -> Result<String> {
    if let Ok(time) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(time);
    }
    let mut git = Command::new("git");
    let time = stdout(git.args(["log", "-1", "--format=%ct"]).current_dir(root()));
    let time = time.context("no git repository: set SOURCE_DATE_EPOCH to the sources' time")?;
    Ok(time.trim().to_owned())
}
