//! The crates whose code is in the program, eBPF programs included; crates that only build it are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use spdx::Expression;

use super::TARGET;
use xtask::tool::{cargo, root, stdout};

/// Packages of this workspace that make up the program.
const OURS: [&str; 2] = ["vmexit-agent", "vmexit-ebpf"];

/// A crate from a registry.
pub(super) struct ShippedCrate {
    /// Name in the registry.
    pub(super) name: String,
    /// Version by Cargo.lock.
    pub(super) version: String,
    /// Licence, an SPDX expression.
    pub(super) licence: String,
    /// URL of its repository, if it names one.
    pub(super) repository: Option<String>,
    /// SHA-256 of its archive in the registry.
    pub(super) sha256: Option<String>,
    /// Directory of its sources.
    pub(super) directory: PathBuf,
}

/// Name and version.
type CrateId = (String, String);

/// All crates of the program, by name and version.
pub(super) fn shipped() -> Result<Vec<ShippedCrate>> {
    let mut ids = BTreeSet::new();
    for package in OURS {
        let mut tree = cargo();
        tree.args(["tree", "--package", package, "--target", TARGET, "--prefix", "none"]);
        tree.args(["--edges", "normal,no-proc-macro", "--format", "{p}"]);
        let tree = stdout(&mut tree).with_context(|| format!("cargo tree of {package}"))?;
        ids.extend(tree.lines().filter_map(id));
    }
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--filter-platform", TARGET]);
    let metadata = stdout(&mut metadata).context("cargo metadata")?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let sums = sums()?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    // Those without a source are of this workspace.
    let others = packages.iter().filter(|package| package["source"].is_string());
    let crates = others.map(|package| described(package, &sums)).collect::<Result<Vec<_>>>()?;
    let is_in = |one: &ShippedCrate| ids.contains(&(one.name.clone(), one.version.clone()));
    Ok(crates.into_iter().filter(is_in).collect())
}

/// Crate of a line of `cargo tree`: `name v1.2.3 …`.
fn id(line: &str) -> Option<CrateId> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
}

fn described(package: &Value, sums: &BTreeMap<CrateId, String>) -> Result<ShippedCrate> {
    let field = |name: &str| package[name].as_str().map(str::to_owned);
    let name = field("name").context("a crate without a name")?;
    let version = field("version").with_context(|| format!("{name} without a version"))?;
    let manifest = field("manifest_path").with_context(|| format!("{name} without sources"))?;
    let directory = Path::new(&manifest).parent().context("a manifest is in a directory")?;
    let licence = field("license").with_context(|| format!("{name} {version} names no licence"))?;
    // Old crates have `/` for `OR`.
    let licence = Expression::canonicalize(&licence)?.unwrap_or(licence);
    Ok(ShippedCrate {
        licence,
        repository: field("repository"),
        sha256: sums.get(&(name.clone(), version.clone())).cloned(),
        directory: directory.to_owned(),
        name,
        version,
    })
}

fn sums() -> Result<BTreeMap<CrateId, String>> {
    let lock: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.lock"))?)?;
    let packages = lock["package"].as_array().context("Cargo.lock has no packages")?;
    let sum = |package: &toml::Value| {
        let field = |name| Some(package.get(name)?.as_str()?.to_owned());
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    Ok(packages.iter().filter_map(sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_program_is_listed_and_what_builds_it_is_not() {
        let crates = shipped().unwrap();
        let has = |name: &str| crates.iter().any(|one| one.name == name);
        assert!(has("aya") && has("aya-ebpf") && has("clap_builder"));
        assert!(!has("aya-build") && !has("syn") && !has("proptest") && !has("vmexit-common"));
        assert!(crates.iter().all(|one| one.sha256.is_some()));
    }
}
