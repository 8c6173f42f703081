//! `cargo xtask dist`: the release files. One static program, laid out with everything that belongs to it, goes
//! into an archive and into a Debian package.

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

/// Target of the program: with glibc inside, every host can build it, and it starts on any supported Linux.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "shipped";

pub(crate) fn dist() -> Result<()> {
    setup::build()?;
    setup::programs(&[Need::Packaging])?;
    let crates = crates::shipped()?;
    licences::check(&crates)?;
    eprintln!("dist: building");
    let tree = tree(&program(&crates)?, &crates)?;
    let packages = target().join("dist");
    emptied(&packages)?;
    eprintln!("dist: packing");
    archive(&tree, &packages)?;
    debian(&tree, &packages)?;
    let mut sums = Command::new("sh");
    sums.args(["-c", "sha256sum -- * >SHA256SUMS"]).current_dir(&packages);
    run(&mut sums)?;
    let mut made: Vec<PathBuf> =
        fs::read_dir(&packages)?.flatten().map(|entry| entry.path()).collect();
    made.sort();
    made.iter().for_each(|package| println!("{}", package.display()));
    Ok(())
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn program(crates: &[ShippedCrate]) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "vmexit-agent", "--profile", PROFILE, "--target", TARGET]);
    // In place of these two, and only for this target: build scripts and the eBPF programs are for others.
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(renamed(crates)?);
    build.arg("--config").arg(format!("target.{TARGET}.rustflags={flags:?}"));
    run(&mut build)?;
    Ok(built().join("vmexit"))
}

/// Compiler flags that keep this machine's directories out of the program, so that it is the same wherever it is
/// built. The eBPF programs' own build does so itself.
fn renamed(crates: &[ShippedCrate]) -> Result<Vec<String>> {
    let registries: BTreeSet<&Path> =
        crates.iter().filter_map(|one| one.directory.parent()).collect();
    let library = rust_library()?;
    let mut places = vec![(root(), "vmexit"), (&library, "library")];
    places.extend(registries.into_iter().map(|registry| (registry, "crates")));
    let flag =
        |(place, name): (&Path, _)| format!("--remap-path-prefix={}={name}", place.display());
    Ok(places.into_iter().map(flag).collect())
}

/// Directory in which cargo leaves the program.
fn built() -> PathBuf {
    target().join(TARGET).join(PROFILE)
}

/// Directory with all files, each at its place below a prefix such as `/usr/local`.
fn tree(program: &Path, crates: &[ShippedCrate]) -> Result<PathBuf> {
    let tree = built().join("tree");
    emptied(&tree)?;
    tree::lay(program, &tree)?;
    let documents = tree.join("share/doc/vmexit");
    for (name, text) in [
        ("third-party.txt", licences::notices(crates)?),
        ("vmexit.cdx.json", sbom::cyclonedx(crates)?),
    ] {
        fs::write(documents.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(tree)
}

fn emptied(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))
}

/// Packs the tree under a directory of its own; nothing in the archive tells by whom or when.
fn archive(tree: &Path, packages: &Path) -> Result<()> {
    let name = format!("vmexit-{}-x86_64-linux", version());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--mode=u+rw,go+r,go-w").arg(format!("--mtime=@{}", commit_time()?));
    tar.arg(format!("--transform=s,^\\.,{name},")).arg("--file");
    tar.arg(packages.join(format!("{name}.tar.gz"))).arg("--directory").arg(tree).arg(".");
    run(&mut tar)
}

/// Makes the Debian package with debhelper; packaging/debian says where the tree's files go.
fn debian(tree: &Path, packages: &Path) -> Result<()> {
    let sources = built().join("debian-package");
    emptied(&sources)?;
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
    // Beside its sources, as all of debhelper's.
    let name = format!("vmexit_{}_amd64.deb", version());
    let made = sources.with_file_name(&name);
    fs::rename(&made, packages.join(&name)).with_context(|| format!("move {}", made.display()))
}

/// Time of the last commit in seconds since 1970, or `SOURCE_DATE_EPOCH` for sources without git.
fn commit_time() -> Result<String> {
    if let Ok(time) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(time);
    }
    let mut git = Command::new("git");
    let time = stdout(git.args(["log", "-1", "--format=%ct"]).current_dir(root()));
    let time = time.context("no git repository: set SOURCE_DATE_EPOCH to the sources' time")?;
    Ok(time.trim().to_owned())
}
